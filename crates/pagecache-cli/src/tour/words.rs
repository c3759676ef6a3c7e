//! What the index keeps in a page: a sorted map from words to the places where they stand, merged by a materializer.

use std::collections::BTreeMap;

use pagecache::Materializer;
use serde::{Deserialize, Serialize};

/// Where a word stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Posting {
    pub(super) file: u32,
    /// From 1.
    pub(super) line: u32,
}

/// A page of the index, or an addition to one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Words(pub(super) BTreeMap<String, Vec<Posting>>);

impl Words {
    pub(super) fn add(&mut self, word: &str, posting: Posting) {
        match self.0.get_mut(word) {
            // Words come in the order of lines: a second one on the same line is the last one.
            Some(postings) if postings.last() == Some(&posting) => {}
            Some(postings) => postings.push(posting),
            None => {
                self.0.insert(word.to_owned(), vec![posting]);
            }
        }
    }
}

/// Joins pages word by word. Joining lists end to end is associative, so fragments may be merged in any grouping.
pub(super) struct Index;

impl Materializer for Index {
    type PageFrag = Words;
    type Recovery = ();
    const RECOVERS: bool = false;

    fn new(_: &Option<()>) -> Self {
        Index
    }

    fn merge(&self, frags: &[&Words]) -> Words {
        let Some((base, additions)) = frags.split_first() else { return Words::default() };
        let mut page = Words::clone(base);
        for (word, postings) in additions.iter().flat_map(|words| &words.0) {
            match page.0.get_mut(word) {
                Some(known) => known.extend_from_slice(postings),
                None => {
                    page.0.insert(word.clone(), postings.clone());
                }
            }
        }
        page
    }

    fn recover(&self, _: &Words) -> Option<()> {
        None
    }

    /// The map's nodes hold eleven entries each and are about two thirds full; every word and every list is a piece of its own.
    fn heap_size(&self, page: &Words) -> usize {
        let entry = size_of::<String>() + size_of::<Vec<Posting>>();
        let own = |(word, postings): (&String, &Vec<Posting>)| {
            word.capacity() + postings.capacity() * size_of::<Posting>() + entry * 3 / 2
        };
        page.0.iter().map(own).sum()
    }
}

/// The words of a line, in small letters: runs of letters, digits and `_` of 2 to 40 bytes.
pub(super) fn split(line: &str) -> impl Iterator<Item = String> + '_ {
    let words = line.split(|letter: char| !(letter.is_alphanumeric() || letter == '_'));
    words.filter(|word| (2..=40).contains(&word.len())).map(str::to_lowercase)
}

/// The page a word belongs to, by FNV-1a.
pub(super) fn bucket(word: &str, buckets: u64) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    word.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step) % buckets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_is_associative() {
        let words = |text: &str, file| {
            let mut words = Words::default();
            split(text).for_each(|word| words.add(&word, Posting { file, line: 1 }));
            words
        };
        let (a, b, c) = (words("one two", 1), words("two three", 2), words("one three four", 3));
        let all = Index.merge(&[&a, &b, &c]);
        assert_eq!(all, Index.merge(&[&Index.merge(&[&a, &b]), &c]));
        assert_eq!(all, Index.merge(&[&a, &Index.merge(&[&b, &c])]));
        assert_eq!(all.0.values().map(Vec::len).sum::<usize>(), 7);
    }

    #[test]
    fn lines_are_split_into_words() {
        assert_eq!(split("fn a_b(X: Größe) -> i;").collect::<Vec<_>>(), ["fn", "a_b", "größe"]);
    }
}
