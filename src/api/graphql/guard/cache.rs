//! Parsed documents by the hash of their text, so that a client's few queries are parsed once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use sha2::{Digest, Sha256};

use super::Parsed;

/// Texts larger than this are parsed every time: the tree of a document takes many times its text.
const MAX_TEXT: usize = 16 * 1024;
/// Bytes of text that all kept documents may have together.
const MAX_TOTAL: usize = 1024 * 1024;
/// Documents kept.
const MAX_DOCUMENTS: usize = 512;

/// A bounded cache; the document that was not asked for the longest leaves first.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    documents: HashMap<[u8; 32], Entry>,
    text: usize,
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    parsed: Arc<Parsed>,
    text: usize,
    used: u64,
}

/// Key of a text.
pub(super) fn key(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

impl Cache {
    /// The document of this key.
    pub(super) fn get(&self, key: &[u8; 32]) -> Option<Arc<Parsed>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clock += 1;
        let now = kept.clock;
        let entry = kept.documents.get_mut(key)?;
        entry.used = now;
        Some(Arc::clone(&entry.parsed))
    }

    /// Keeps a document whose text has so many bytes, if it is small enough.
    pub(super) fn put(&self, key: [u8; 32], text: usize, parsed: &Arc<Parsed>) {
        if text > MAX_TEXT {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clock += 1;
        let entry = Entry { parsed: Arc::clone(parsed), text, used: kept.clock };
        kept.text += text;
        if let Some(old) = kept.documents.insert(key, entry) {
            kept.text -= old.text;
        }
        while kept.documents.len() > MAX_DOCUMENTS || kept.text > MAX_TOTAL {
            let Some(oldest) = kept.documents.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| *key) else {
                break;
            };
            if let Some(entry) = kept.documents.remove(&oldest) {
                kept.text -= entry.text;
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).documents.len()
    }
}
