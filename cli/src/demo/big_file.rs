//! A file of over 100 MB: one that is on the machine anyway, else one written for the demo.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use crate::demo::limits::BIG_FILE_BYTES_MIN;
use crate::error::Failure;

/// Bytes compared at a time.
const COMPARE_BYTES: usize = 1024 * 1024;

/// Returns a file of over 100 MB: the compiler's library, another large one beside it, or a new one in
/// `folder`.
pub(crate) fn find(folder: &Path) -> Result<PathBuf, Failure> {
    if let Some(file) = toolchain_library() {
        return Ok(file);
    }
    let file = folder.join("large-file.bin");
    write(&file).map_err(|error| Failure::io(file.display(), &error))?;
    Ok(file)
}

/// Looks for `librustc_driver-*.so` in the toolchain that is installed, then for any large file there.
fn toolchain_library() -> Option<PathBuf> {
    let asked = std::process::Command::new("rustc")
        .args(["--print", "sysroot"])
        .output()
        .ok()?;
    let sysroot = PathBuf::from(String::from_utf8(asked.stdout).ok()?.trim());
    let mut large = std::fs::read_dir(sysroot.join("lib"))
        .ok()?
        .filter_map(Result::ok)
        .filter(|entry| {
            entry
                .metadata()
                .is_ok_and(|data| data.is_file() && data.len() > BIG_FILE_BYTES_MIN)
        })
        .map(|entry| entry.path())
        .collect::<Vec<_>>();
    large.sort_by_key(|path| !name(path).starts_with("librustc_driver-"));
    large.into_iter().next()
}

/// Returns the last part of a path, for people.
pub(crate) fn name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Writes a file in which no two blocks are alike.
fn write(path: &Path) -> io::Result<()> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"kinlog demo");
    let mut noise = hasher.finalize_xof();
    let mut file = BufWriter::new(File::create_new(path)?);
    let mut buffer = vec![0; COMPARE_BYTES];
    for _ in 0..=BIG_FILE_BYTES_MIN / COMPARE_BYTES as u64 {
        noise.fill(&mut buffer);
        file.write_all(&buffer)?;
    }
    file.flush()
}

/// Compares two files byte for byte; returns their size, or where they differ.
pub(crate) fn compare(left: &Path, right: &Path) -> io::Result<Result<u64, u64>> {
    let open = |path: &Path| {
        Ok::<_, io::Error>(BufReader::with_capacity(COMPARE_BYTES, File::open(path)?))
    };
    let (mut left, mut right) = (open(left)?, open(right)?);
    let mut at = 0;
    let (mut one, mut other) = (vec![0; COMPARE_BYTES], vec![0; COMPARE_BYTES]);
    loop {
        let read = fill(&mut left, &mut one)?;
        let read_other = fill(&mut right, &mut other)?;
        let both = read.min(read_other);
        if let Some(place) = one[..both]
            .iter()
            .zip(&other[..both])
            .position(|(a, b)| a != b)
        {
            return Ok(Err(at + place as u64));
        }
        at += both as u64;
        if read != read_other {
            return Ok(Err(at));
        }
        if read == 0 {
            return Ok(Ok(at));
        }
    }
}

fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_found_where_it_is() {
        let folder = std::env::temp_dir().join(format!("kinlog-compare-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("folder");
        let (left, right) = (folder.join("left"), folder.join("right"));
        let content = vec![7u8; COMPARE_BYTES + 100];
        std::fs::write(&left, &content).expect("written");
        std::fs::write(&right, &content).expect("written");
        assert_eq!(
            compare(&left, &right).expect("readable"),
            Ok(content.len() as u64)
        );

        let mut changed = content.clone();
        changed[COMPARE_BYTES + 3] ^= 1;
        std::fs::write(&right, &changed).expect("written");
        assert_eq!(
            compare(&left, &right).expect("readable"),
            Err(COMPARE_BYTES as u64 + 3)
        );

        std::fs::write(&right, &content[..50]).expect("written");
        assert_eq!(compare(&left, &right).expect("readable"), Err(50));
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
