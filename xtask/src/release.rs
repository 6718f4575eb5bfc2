//! `cargo xtask release --dry-run`: everything of a release except the uploads. One version everywhere, a
//! section in the changelog, packages of the crates and of the npm client, and their checksums in
//! `target/xtask/release`.

use crate::process;
use crate::workspace::{Workspace, on_path};
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;
use std::time::Duration;

/// The crates in the order in which they are published: each after those that it depends on.
const CRATES: [&str; 7] = [
    "hauyna-websocket",
    "hauyna-protocol",
    "hauyna-broker",
    "hauyna",
    "hauyna-client",
    "hauyna-test",
    "hauyna-server",
];

/// Makes and checks the packages, and says what a maintainer runs to publish them.
pub(crate) fn run(workspace: &Workspace) -> Result<bool> {
    ensure!(
        workspace.dry_run,
        "publishing is done by hand: run cargo xtask release --dry-run, which says how"
    );
    let version = version_of(&std::fs::read_to_string(workspace.root.join("Cargo.toml"))?)
        .context("Cargo.toml names no version of the workspace")?
        .to_owned();
    let package: serde_json::Value =
        serde_json::from_slice(&std::fs::read(workspace.root.join("clients/typescript/package.json"))?)?;
    ensure!(
        package["version"] == version.as_str(),
        "the crates are version {version}, the npm package is {}",
        package["version"]
    );
    let changelog = std::fs::read_to_string(workspace.root.join("CHANGELOG.md"))?;
    let section = section_of(&changelog, &version)
        .with_context(|| format!("CHANGELOG.md has no section [{version}] and no [Unreleased]"))?;
    println!("version {version}; changes: {section}");

    let folder = workspace.scratch.join("release");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    package_crates(workspace, &version, &folder)?;
    package_npm(workspace, &folder)?;
    let sums = checksums(workspace, &folder)?;
    print!("{sums}");
    println!("packages and SHA256SUMS are in {}", folder.display());
    println!("to publish: git tag v{version}, then in this order");
    for name in CRATES {
        println!("  cargo publish --package {name}");
    }
    println!("  npm publish, in clients/typescript");
    Ok(true)
}

/// Packs the crates and compiles what the packages hold; with `--quick` it only packs.
fn package_crates(workspace: &Workspace, version: &str, folder: &Path) -> Result<()> {
    let mut command = workspace.cargo(&["package", "--locked"]);
    for name in CRATES {
        command.args(["--package", name]);
    }
    if workspace.quick {
        command.arg("--no-verify");
    }
    process::run(workspace, "release-crates", &mut command, LIMIT)?;
    for name in CRATES {
        let file = format!("{name}-{version}.crate");
        std::fs::copy(workspace.target.join("package").join(&file), folder.join(&file))
            .with_context(|| format!("cargo made no {file}"))?;
    }
    Ok(())
}

/// Builds and packs the TypeScript client.
fn package_npm(workspace: &Workspace, folder: &Path) -> Result<()> {
    on_path(&["npm"]).context("needs Node.js 20 or later with npm: apt-get install nodejs npm")?;
    crate::typescript::build(workspace)?;
    let mut command = workspace.command("npm");
    command
        .args(["pack", "--silent", "--pack-destination"])
        .arg(folder)
        .current_dir(workspace.root.join("clients/typescript"));
    process::run(workspace, "release-npm", &mut command, LIMIT)?;
    Ok(())
}

fn checksums(workspace: &Workspace, folder: &Path) -> Result<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        names.push(entry?.file_name());
    }
    names.sort();
    let sum = on_path(&["sha256sum"]).context("needs sha256sum: apt-get install coreutils")?;
    let mut command = workspace.command(&sum.to_string_lossy());
    command.args(names).current_dir(folder);
    let sums = process::run(workspace, "release-checksums", &mut command, LIMIT)?;
    if sums.lines().count() != CRATES.len() + 1 {
        bail!("there are not {} packages: {sums}", CRATES.len() + 1);
    }
    std::fs::write(folder.join("SHA256SUMS"), &sums)?;
    Ok(sums)
}

/// The version of the workspace.
fn version_of(manifest: &str) -> Option<&str> {
    let package = manifest.split("[workspace.package]").nth(1)?;
    package.split("version = \"").nth(1)?.split('"').next()
}

/// The heading of what a version changes: its own section, or that of what is not released yet.
fn section_of<'a>(changelog: &'a str, version: &str) -> Option<&'a str> {
    let headings: Vec<&str> = changelog.lines().filter(|line| line.starts_with("## [")).collect();
    let named = format!("## [{version}]");
    let is_named = headings.iter().find(|line| line.starts_with(&named));
    is_named.or_else(|| headings.iter().find(|line| line.starts_with("## [Unreleased]"))).copied()
}

/// A clean build of all crates on two slow cores.
const LIMIT: Duration = Duration::from_secs(20 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_sections_are_found() {
        let manifest = "[workspace]\nversion = \"9\"\n[workspace.package]\nversion = \"0.2.0\"\n";
        assert_eq!(version_of(manifest), Some("0.2.0"));
        assert_eq!(version_of("[package]\nversion = \"1\""), None);
        let changelog = "# Changelog\n## [Unreleased]\n## [0.2.0] - 2026-12-01\n";
        assert_eq!(section_of(changelog, "0.2.0"), Some("## [0.2.0] - 2026-12-01"));
        assert_eq!(section_of(changelog, "0.3.0"), Some("## [Unreleased]"));
        assert_eq!(section_of("# Changelog\n", "0.3.0"), None);
    }
}
