//! With feature `ptx`, compiles this crate a second time: for the GPU.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "ptx")]
    if let Err(e) = ptx_build::build_script() {
        eprintln!("{e}");
        std::process::exit(1);
    }
}
