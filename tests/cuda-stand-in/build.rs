//! Gives the library the name under which the driver's is loaded: once it is in a process, it is found
//! there by that name.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libcuda.so");
}
