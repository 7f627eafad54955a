//! The key that is kept in a file. Whoever comes first makes it; all processes then read the same one.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::Path,
};

use super::Seal;

/// What the file says, which is made when it is missing.
pub(super) fn read_or_make(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        read => return read,
    }
    let key = Seal::generate().map_err(io::Error::other)?;
    // Whole or not at all under its own name: others may read it at any moment.
    let draft = path.with_extension(format!("{}.draft", uuid::Uuid::now_v7().simple()));
    let made = write(&draft, &key).and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    fs::remove_file(&draft).ok();
    made?;
    fs::read_to_string(path)
}

fn write(path: &Path, key: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file: File = options.open(path)?;
    writeln!(file, "{key}")?;
    file.sync_all()
}
