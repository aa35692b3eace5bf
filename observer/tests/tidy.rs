//! Checks the prose of the project: it counts idioms that make a kernel developer read a line twice, and they must not
//! increase.
//!
//! CONTRIBUTING.md has the rules. The check reads comments and strings of the sources, without tests, and the documents. A
//! limit is the count that is left; lower it with every text that improves.

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests read files")]
#![allow(clippy::unwrap_used, reason = "helpers of tests are not `#[test]` functions for clippy")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Highest allowed count of each habit, in comments, strings and documents.
const LIMITS: [(&str, [usize; 3]); 9] = [
    ("sentences that open with What, Who, Whether, Of", [7, 38, 26]),
    ("tell, told", [2, 5, 2]),
    ("anew", [2, 0, 0]),
    ("so many, so much, so long, so often", [0, 0, 1]),
    ("is no, are no, was no", [18, 6, 5]),
    ("none of", [0, 1, 0]),
    ("stands, stood", [1, 2, 8]),
    ("had", [4, 2, 11]),
    ("whoever, whatever, whichever", [3, 0, 11]),
];
/// Highest allowed count of one-line doc comments of less than three words, or whose first word needs the line above.
const HEADLESS: usize = 14;

const OPENERS: [&str; 9] =
    ["what", "who", "whoever", "whatever", "whose", "whether", "of", "from which", "that"];
const HEADLESS_WORDS: [&str; 18] = [
    "of", "by", "which", "all", "the same", "from", "what", "who", "how", "where", "when", "since", "until",
    "as", "in", "to", "for", "with",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Files with this ending, without tests and build results.
fn files(ending: &str) -> Vec<PathBuf> {
    const LEFT_OUT: [&str; 6] = ["target", "tests", "benches", "fixtures", "snapshots", "tests.rs"];
    let (mut found, mut folders) = (Vec::new(), vec![root()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
            if name.starts_with('.') || LEFT_OUT.contains(&&*name) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Paragraphs of comments.
fn comments(source: &str) -> Vec<String> {
    let mut paragraphs = vec![String::new()];
    for line in source.lines() {
        let text = line.trim_start().strip_prefix("//").map(|t| t.trim_start_matches(['/', '!']).trim());
        match text {
            Some(text) if !text.is_empty() => {
                let last = paragraphs.last_mut().unwrap();
                last.push_str(text);
                last.push(' ');
            }
            _ => paragraphs.push(String::new()),
        }
    }
    paragraphs
}

/// String literals of at least four words, without line breaks.
fn strings(source: &str) -> Vec<String> {
    let code: Vec<&str> = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let (mut all, mut now, mut is_inside, mut chars) =
        (Vec::new(), String::new(), false, code.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '\\' if is_inside => match chars.next() {
                Some('\n') => while chars.next_if(|c| c.is_whitespace()).is_some() {},
                _ => now.push(' '),
            },
            '"' => {
                if is_inside && words(&now).len() >= 4 {
                    all.push(std::mem::take(&mut now));
                }
                now.clear();
                is_inside = !is_inside;
            }
            c if is_inside => now.push(c),
            // A quotation mark as a character.
            '\'' if chars.clone().take(2).eq(['"', '\'']) => drop(chars.nth(1)),
            _ => {}
        }
    }
    all
}

/// Lines of a document, without code.
fn lines(document: &str) -> Vec<String> {
    let mut is_code = false;
    let text = document.lines().filter(|line| {
        is_code ^= line.starts_with("```");
        !is_code && !line.starts_with("```")
    });
    text.map(|line| line.trim_start_matches(['#', '>', '*', '|', '-', ' ']).to_owned()).collect()
}

fn words(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '\'');
    words.filter(|w| !w.is_empty()).map(str::to_lowercase).collect()
}

fn sentences(text: &str) -> Vec<&str> {
    let (mut all, mut start) = (Vec::new(), 0);
    for (at, _) in text.match_indices(['.', '!', '?']) {
        let after = &text[at + 1..];
        let next = after.trim_start();
        if after.starts_with(' ') && next.starts_with(|c: char| c.is_uppercase() || c == '`') {
            all.push(&text[start..=at]);
            start = text.len() - next.len();
        }
    }
    all.push(&text[start..]);
    all
}

fn begins_with(words: &[String], openers: &[&str]) -> bool {
    let first = words.first().map_or("", String::as_str);
    let two = format!("{first} {}", words.get(1).map_or("", String::as_str));
    openers.iter().any(|opener| *opener == first || *opener == two)
}

/// Count of each habit in a text, in the order of [`LIMITS`].
fn habits(text: &str) -> [usize; 9] {
    let words = words(text);
    let one = |all: &[&str]| words.iter().filter(|w| all.contains(&w.as_str())).count();
    let two = |first: &[&str], second: &[&str]| {
        let is = |pair: &&[String]| first.contains(&&*pair[0]) && second.contains(&&*pair[1]);
        words.windows(2).filter(is).count()
    };
    let sentences = sentences(text);
    let opened = sentences.iter().map(|s| self::words(s)).filter(|s| s.len() >= 3);
    [
        opened.filter(|s| begins_with(s, &OPENERS)).count(),
        one(&["told", "tell", "tells", "telling"]),
        one(&["anew"]),
        two(&["so"], &["many", "much", "long", "often"]),
        two(&["is", "are", "was", "were"], &["no"]),
        two(&["none"], &["of"]),
        one(&["stand", "stands", "stood"]),
        one(&["had"]),
        one(&["whoever", "whatever", "whichever"]),
    ]
}

/// A doc comment of a single line that is neither a sentence nor a noun phrase.
fn headless(source: &str) -> Vec<&str> {
    let lines: Vec<&str> = source.lines().collect();
    let doc = |at: usize| lines.get(at).and_then(|line| line.trim_start().strip_prefix("///"));
    let is_alone = |at: &usize| (*at == 0 || doc(at - 1).is_none()) && doc(at + 1).is_none();
    let alone = (0..lines.len()).filter(is_alone).filter_map(doc).filter(|text| !text.trim().is_empty());
    alone
        .filter(|text| text.split_whitespace().count() < 3 || begins_with(&words(text), &HEADLESS_WORDS))
        .collect()
}

#[test]
fn idioms_do_not_increase() {
    let read = |path: &PathBuf| fs::read_to_string(path).unwrap();
    let sources: Vec<String> = files(".rs").iter().map(read).collect();
    let documents: Vec<String> = files(".md").iter().map(read).collect();
    let texts: [Vec<String>; 3] = [
        sources.iter().flat_map(|s| comments(s)).collect(),
        sources.iter().flat_map(|s| strings(s)).collect(),
        documents.iter().flat_map(|d| lines(d)).collect(),
    ];
    assert!(texts.iter().all(|t| t.len() > 500), "vacuous");
    let mut found = [[0; 3]; 9];
    for (corpus, texts) in texts.iter().enumerate() {
        for text in texts {
            for (habit, n) in habits(text).into_iter().enumerate() {
                found[habit][corpus] += n;
            }
        }
    }
    let mut rose = Vec::new();
    for ((name, limits), found) in LIMITS.iter().zip(found) {
        println!("{name}: {found:?} of {limits:?} in comments, strings, documents");
        if found.iter().zip(limits).any(|(n, limit)| n > limit) {
            rose.push(format!("{name}: {found:?}, and at most {limits:?} in comments, strings, documents"));
        }
    }
    let headless: Vec<&str> = sources.iter().flat_map(|s| headless(s)).collect();
    println!("headless: {} of {HEADLESS}", headless.len());
    if headless.len() > HEADLESS {
        rose.push(format!(
            "one-line doc comments that are no sentence and no noun phrase: {}, at most {HEADLESS}",
            headless.len()
        ));
    }
    assert!(rose.is_empty(), "{}\nsay it plainly: CONTRIBUTING.md, Language", rose.join("\n"));
}

#[test]
fn habits_are_recognised() {
    let text =
        "What it holds. It had told us so many times that none of them is no good. Whoever stands anew.";
    assert_eq!(habits(text), [2, 1, 1, 1, 1, 1, 1, 1, 1]);
    assert_eq!(habits("The lookup returns a pointer. It holds the lock."), [0; 9]);
    assert_eq!(headless("/// Of it.\nfn a() {}\n\n/// The lock's address.\nfn b() {}\n").len(), 1);
    assert_eq!(strings("let a = \"one two three four\"; let b = \"x\";"), ["one two three four"]);
}
