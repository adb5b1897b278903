//! What deploy/ shows is true: the image is built from all that the workspace needs.

use std::path::Path;

const CONTAINERFILE: &str = include_str!("../../deploy/Containerfile");
const MANIFEST: &str = include_str!("../../Cargo.toml");

#[test]
fn the_container_is_built_with_every_member_of_the_workspace() {
    let manifest: toml::Table = MANIFEST.parse().unwrap();
    let copied: Vec<&Path> = CONTAINERFILE
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "))
        .filter(|line| !line.starts_with("--from"))
        .flat_map(|line| line.split(' '))
        .map(Path::new)
        .collect();
    for member in manifest["workspace"]["members"].as_array().unwrap() {
        let file = Path::new(member.as_str().unwrap()).join("Cargo.toml");
        let file = file.strip_prefix(".").unwrap_or(&file);
        assert!(copied.iter().any(|path| file.starts_with(path)), "{} is not copied", file.display());
    }
}
