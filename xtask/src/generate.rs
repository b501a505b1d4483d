//! Rust from protobuf schemas, through `protox` and `prost-build`: no protoc needed.
//!
//! Each `<crate>/proto/*.proto` belongs to that crate; a package `kinlog.signal.v1` becomes
//! `src/generated/kinlog_signal_v1.rs`, and `src/generated/mod.rs` names them all. The result is
//! committed, and `cargo xtask gen --check` (part of `cargo xtask test`) compares.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::repository;

const MOD_HEAD: &str = "//! Written by `cargo xtask gen` from `proto/`; edits are lost.\n\n\
    #![allow(missing_docs, unreachable_pub, clippy::all, reason = \"generated code\")]\n\n";

/// Writes the generated files of every crate that has schemas.
pub(crate) fn write() -> Result<()> {
    for (path, text) in generate()? {
        if fs::read_to_string(&path).ok().as_deref() != Some(text.as_str()) {
            fs::create_dir_all(path.parent().expect("generated files lie in src/generated"))?;
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
            println!("wrote {}", path.display());
        }
    }
    Ok(())
}

/// Fails when a committed file differs from what its schema gives.
pub(crate) fn check() -> Result<()> {
    let mut stale = Vec::new();
    for (path, text) in generate()? {
        if fs::read_to_string(&path).ok().as_deref() != Some(text.as_str()) {
            stale.push(path.display().to_string());
        }
    }
    if !stale.is_empty() {
        bail!(
            "not what the schema gives, run `cargo xtask gen`: {}",
            stale.join(", ")
        );
    }
    println!("generated code is what the schemas give");
    Ok(())
}

fn generate() -> Result<BTreeMap<PathBuf, String>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(repository::root())? {
        let folder = entry?.path();
        if folder.join("proto").is_dir() && folder.join("Cargo.toml").is_file() {
            generate_crate(&folder, &mut files)
                .with_context(|| format!("schemas of {}", folder.display()))?;
        }
    }
    Ok(files)
}

fn generate_crate(folder: &Path, files: &mut BTreeMap<PathBuf, String>) -> Result<()> {
    let proto = folder.join("proto");
    let mut schemas: Vec<PathBuf> = fs::read_dir(&proto)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "proto")
        })
        .collect();
    schemas.sort();
    let descriptors = protox::compile(&schemas, [&proto])?;
    let modules: BTreeMap<String, _> = descriptors
        .file
        .iter()
        .map(|file| {
            let package = file.package().to_owned();
            (
                package.clone(),
                prost_build::Module::from_protobuf_package_name(&package),
            )
        })
        .collect();
    let mut config = prost_build::Config::new();
    config.bytes(["."]);
    let requests = descriptors
        .file
        .into_iter()
        .map(|file| {
            (
                prost_build::Module::from_protobuf_package_name(file.package()),
                file,
            )
        })
        .collect();
    let mut code = config.generate(requests)?;
    let generated = folder.join("src/generated");
    let mut module_file = MOD_HEAD.to_owned();
    for (package, module) in modules {
        let name = package.replace('.', "_");
        let text = code
            .remove(&module)
            .context("prost gave no code for a package")?;
        module_file.push_str(&format!("pub(crate) mod {name};\n"));
        files.insert(
            generated.join(format!("{name}.rs")),
            format_rust(&format!(
                "// Written by `cargo xtask gen`; edits are lost.\n{text}"
            ))?,
        );
    }
    files.insert(generated.join("mod.rs"), format_rust(&module_file)?);
    Ok(())
}

/// Formats as `cargo fmt` does, so that the format check accepts generated files.
fn format_rust(text: &str) -> Result<String> {
    use std::io::Write as _;
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024", "--config-path"])
        .arg(repository::root().join("rustfmt.toml"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .context("starting rustfmt")?;
    child
        .stdin
        .take()
        .expect("stdin is piped")
        .write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("rustfmt refused generated code: {}", output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}
