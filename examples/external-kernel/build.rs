fn main() -> Result<(), ptx_build::Error> {
    ptx_build::build_script()
}
