//! The files of `deploy/`, and what is in them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// A path of the project.
pub(super) fn path(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The text of a file of the project.
pub(super) fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Files with this ending in a folder and below it, as paths of the project, sorted.
pub(super) fn under(folder: &str, ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path(folder)).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if entry.path().is_dir() {
            found.extend(under(&name, ending));
        } else if entry.path().extension().is_some_and(|extension| extension == ending) {
            found.push(name);
        }
    }
    found.sort();
    found
}

/// The documents of a YAML file.
pub(super) fn documents(name: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&read(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A text, which it has to be: numbers and switches would reach the program in another form than they stand there.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// The texts of a list; of nothing, none.
pub(super) fn list(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|item| text(item).to_owned()).collect()
}

/// The name of a Kubernetes object.
pub(super) fn name_of(object: &Value) -> &str {
    text(&object["metadata"]["name"])
}
