//! A search index: each word has a page of postings, documents come and go by small fragments, and a search looks into the
//! fragments without merging them.
//!
//! `cargo run -p pagecache --example search_index`

use std::collections::{BTreeMap, BTreeSet};

use pagecache::{ConfigBuilder, Error, Materializer, PageCache, PageId, Rejected, Version, version};
use serde::{Deserialize, Serialize};

/// Documents that have a word (true) or lost it (false). A whole page is one that only says `true`.
type Postings = BTreeMap<u32, bool>;

/// A fragment of a page.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Frag {
    /// Postings of one word.
    Postings { whole: bool, documents: Postings },
    /// Which page has the postings of which word: page 0.
    Words(BTreeMap<String, u64>),
}

struct Index;

impl Materializer for Index {
    type PageFrag = Frag;
    type Recovery = ();
    const RECOVERS: bool = false;

    fn new(_: &Option<()>) -> Self {
        Index
    }

    fn merge(&self, frags: &[&Frag]) -> Frag {
        let mut all_words = BTreeMap::new();
        let (mut whole, mut merged) = (false, Postings::new());
        for frag in frags {
            match frag {
                Frag::Words(words) => all_words.extend(words.iter().map(|(word, page)| (word.clone(), *page))),
                Frag::Postings { whole: starts_over, documents } => {
                    if *starts_over {
                        merged.clear();
                        whole = true;
                    }
                    merged.extend(documents);
                }
            }
        }
        if whole {
            // Nothing is below a whole page, so what was lost need not be remembered.
            merged.retain(|_, has| *has);
        }
        match all_words.is_empty() {
            true => Frag::Postings { whole, documents: merged },
            false => Frag::Words(all_words),
        }
    }

    fn recover(&self, _: &Frag) -> Option<()> {
        None
    }
}

struct Search {
    pages: PageCache<Index>,
    directory: PageId,
}

impl Search {
    fn start() -> Result<Search, Error> {
        let pages = PageCache::<Index>::start(ConfigBuilder::new().temporary(true).build())?;
        let guard = pages.pin();
        let directory = pages.allocate(&guard);
        pages.replace_at(directory, Version::NONE, Frag::Words(BTreeMap::new()), &guard)?;
        drop(guard);
        Ok(Search { pages, directory })
    }

    /// Puts a fragment on a page, whatever version it is at.
    fn put(&self, page: PageId, mut frag: Frag) -> Result<(), Error> {
        let guard = self.pages.pin();
        let mut at = version(self.pages.fragments(page, &guard)?.1);
        loop {
            match self.pages.link_at(page, at, frag, &guard) {
                Ok(_) => return Ok(()),
                Err(Rejected::Conflict { token, rejected, .. }) => (at, frag) = (version(token), rejected),
                Err(other) => return Err(other.into()),
            }
        }
    }

    fn page_of(&self, word: &str) -> Result<Option<PageId>, Error> {
        let guard = self.pages.pin();
        let (fragments, _) = self.pages.fragments(self.directory, &guard)?;
        let found = fragments.iter().find_map(|frag| match frag {
            Frag::Words(words) => words.get(word).copied(),
            Frag::Postings { .. } => None,
        });
        Ok(found.map(PageId))
    }

    fn page_for(&self, word: &str) -> Result<PageId, Error> {
        if let Some(page) = self.page_of(word)? {
            return Ok(page);
        }
        let guard = self.pages.pin();
        let page = self.pages.allocate(&guard);
        self.pages.replace_at(
            page,
            Version::NONE,
            Frag::Postings { whole: true, documents: Postings::new() },
            &guard,
        )?;
        drop(guard);
        self.put(self.directory, Frag::Words(BTreeMap::from([(word.to_owned(), page.0)])))?;
        Ok(page)
    }

    /// Says that a document has these words, or no longer has them.
    fn note(&self, document: u32, text: &str, has: bool) -> Result<(), Error> {
        for word in text.split(' ').collect::<BTreeSet<_>>() {
            self.put(
                self.page_for(word)?,
                Frag::Postings { whole: false, documents: Postings::from([(document, has)]) },
            )?;
        }
        Ok(())
    }

    /// Whether a document has a word: the newest fragment that mentions it decides. Nothing is merged.
    fn has(&self, document: u32, word: &str) -> Result<bool, Error> {
        let Some(page) = self.page_of(word)? else { return Ok(false) };
        let guard = self.pages.pin();
        let (fragments, _) = self.pages.fragments(page, &guard)?;
        let decided = fragments.iter().find_map(|frag| match frag {
            Frag::Postings { documents, .. } => documents.get(&document).copied(),
            Frag::Words(_) => None,
        });
        Ok(decided.unwrap_or(false))
    }

    /// The documents that have a word: the whole page, merged once and kept so.
    fn documents(&self, word: &str) -> Result<Vec<u32>, Error> {
        let Some(page) = self.page_of(word)? else { return Ok(Vec::new()) };
        match &*self.pages.get(page, &self.pages.pin())?.0 {
            Frag::Postings { documents, .. } => Ok(documents.keys().copied().collect()),
            Frag::Words(_) => Ok(Vec::new()),
        }
    }
}

pub fn main() -> Result<(), Error> {
    let search = Search::start()?;
    let texts = ["a page has a version", "a page has fragments", "a log has records", "records have a version"];
    for (document, text) in (0..).zip(texts) {
        search.note(document, text, true)?;
    }
    assert!(search.has(0, "version")? && !search.has(1, "version")?);
    assert_eq!(search.documents("page")?, [0, 1]);

    search.note(1, texts[1], false)?;
    assert!(!search.has(1, "page")?, "the newest fragment decides");
    for word in ["page", "has", "version", "records", "nothing"] {
        println!("{word:>8}: documents {:?}", search.documents(word)?);
    }
    assert_eq!(search.documents("page")?, [0]);
    assert_eq!(search.documents("version")?, [0, 3]);
    assert_eq!(search.documents("fragments")?, []);
    search.pages.close()
}
