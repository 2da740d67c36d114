//! Compiles `kernels/*.cu` for one compute capability, and embeds the result; without the feature `cuda` it does
//! nothing.
//!
//! `CUDA_COMPUTE_CAP` (80, 89, 90 ...) says for which; `NVCC`, or else `CUDA_HOME`, where the compiler is.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() -> Result<(), String> {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return Ok(());
    }
    println!("cargo::rerun-if-changed=kernels");
    for name in ["CUDA_COMPUTE_CAP", "NVCC", "CUDA_HOME"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let capability = std::env::var("CUDA_COMPUTE_CAP").ok().and_then(|text| text.parse::<u32>().ok()).ok_or(
        "set CUDA_COMPUTE_CAP to the compute capability of the GPU without its dot: 90 for Hopper, 89 for Ada, 80 for \
         Ampere",
    )?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let sources = sources(Path::new("kernels"))?;
    let compile = |source: &PathBuf| compile(source, capability, &out);
    let modules = std::thread::scope(|scope| -> Result<Vec<String>, String> {
        let running: Vec<_> = sources.iter().map(|source| scope.spawn(|| compile(source))).collect();
        running.into_iter().map(|one| one.join().unwrap_or_else(|_| Err("a thread panicked".into()))).collect()
    })
    .map_err(|error| format!("the kernels do not compile: {error}"))?;
    let mut text = format!("pub(super) const CAPABILITY: u32 = {capability};\n");
    text.push_str("pub(super) const MODULES: &[(&str, &[u8])] = &[\n");
    for name in &modules {
        let cubin = out.join(format!("{name}.cubin"));
        let _ = writeln!(text, "    ({name:?}, include_bytes!({cubin:?})),");
    }
    text.push_str("];\n");
    std::fs::write(out.join("modules.rs"), text).map_err(|error| format!("cannot write modules.rs: {error}"))
}

/// The `.cu` files of a folder, in the order of their names.
fn sources(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", folder.display());
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| Ok(entry.map_err(failed)?.path())).collect::<Result<_, String>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "cu"));
    paths.sort();
    Ok(paths)
}

/// Compiles one file to a cubin of its name, and returns the name.
fn compile(source: &Path, capability: u32, out: &Path) -> Result<String, String> {
    let name = source.file_stem().and_then(|stem| stem.to_str()).ok_or("a kernel's file name is not UTF-8")?;
    let mut command = Command::new(nvcc());
    command.args(["-std=c++17", "-O3", "-cubin", &format!("-arch=sm_{capability}"), "-o"]);
    command.arg(out.join(format!("{name}.cubin"))).arg(source);
    let output = command.output().map_err(|error| {
        format!("cannot run {}: {error}; scripts/setup_cuda.sh brings a compiler", command.get_program().display())
    })?;
    match output.status.success() {
        true => Ok(name.to_owned()),
        false => Err(format!("{}:\n{}", source.display(), String::from_utf8_lossy(&output.stderr))),
    }
}

fn nvcc() -> PathBuf {
    match (std::env::var_os("NVCC"), std::env::var_os("CUDA_HOME")) {
        (Some(nvcc), _) => nvcc.into(),
        (None, Some(home)) => Path::new(&home).join("bin/nvcc"),
        (None, None) => "nvcc".into(),
    }
}
