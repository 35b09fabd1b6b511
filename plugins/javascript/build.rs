//! Gives the parser's recursion room: the stack that Rust keeps in the instance's memory is 1 MiB by default, and two hundred nested
//! brackets fill it. With four the instance's own stack ends first, and that is a limit with a name.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "wasm32") {
        println!("cargo::rustc-link-arg-cdylib=-zstack-size=4194304");
    }
}
