//! Embeds `web/dist`, if it was built, as a table of files in `$OUT_DIR/assets.rs`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let web = root.join("../../web");
    let dist = web.join("dist");
    // A directory that is not there yet would have this run at every build; its parent, which is
    // there, changes when it appears.
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", if dist.is_dir() { &dist } else { &web }.display());

    let mut files = Vec::new();
    if dist.join("index.html").is_file() {
        collect(&dist, &mut files)?;
    }
    files.sort();
    let mut table = String::from("static ASSETS: &[Asset] = &[\n");
    let mut rows: Vec<_> = files.iter().map(|file| (url(&dist, file), file)).collect();
    rows.sort();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    for (index, (path, file)) in rows.into_iter().enumerate() {
        // A copy: the web application may be built again before the compiler reads it.
        let copy = out.join(format!("asset-{index}"));
        fs::write(&copy, fs::read(file)?)?;
        writeln!(
            table,
            "    Asset {{ path: {path:?}, content_type: {:?}, hashed: {}, body: include_bytes!({copy:?}) }},",
            content_type(&path),
            path.starts_with("/assets/"),
        )
        .expect("a string takes everything");
    }
    table.push_str("];\n");
    fs::write(out.join("assets.rs"), table)
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn url(dist: &Path, file: &Path) -> String {
    let path = file.strip_prefix(dist).expect("it was found there");
    path.iter().fold(String::new(), |url, part| url + "/" + &part.to_string_lossy())
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json" | "map") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("webp") => "image/webp",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
