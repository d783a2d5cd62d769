//! Puts the built page where the crate embeds it from; without `npm run build`, a page that says how to build it.

use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let out = Path::new(&env::var("OUT_DIR").expect("cargo sets OUT_DIR")).join("ui");
    if out.exists() {
        fs::remove_dir_all(&out)?;
    }
    let built = Path::new("ui/dist");
    println!("cargo::rerun-if-changed=ui/dist");
    println!("cargo::rerun-if-changed=fallback.html");
    if built.join("index.html").is_file() {
        return copy(built, &out);
    }
    fs::create_dir_all(&out)?;
    fs::copy("fallback.html", out.join("index.html")).map(drop)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &target)?,
            false => drop(fs::copy(entry.path(), target)?),
        }
    }
    Ok(())
}
