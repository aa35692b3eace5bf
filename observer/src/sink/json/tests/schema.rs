//! The tables of `docs/findings.md` as a schema, and the check of a report against it.
//!
//! A type is a primitive, the name of a list of words, the name of a table, or `list of` one of them; ` or null` and `, may be
//! absent` may follow.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

struct Key {
    name: String,
    ty: String,
    may_be_absent: bool,
}

/// The documented shapes.
pub struct Schema {
    shapes: BTreeMap<String, Vec<Key>>,
    words: BTreeMap<String, Vec<String>>,
    /// Keys that occurred, and words of lists that only a report contains.
    seen: BTreeSet<String>,
}

/// Cells of the table under a heading, without its head.
pub fn rows(text: &str, heading: &str) -> Vec<Vec<String>> {
    let under =
        text.lines().skip_while(|l| !(l.starts_with('#') && l.trim_start_matches('#').trim() == heading));
    let table = under.skip(1).skip_while(|l| !l.starts_with('|')).take_while(|l| l.starts_with('|'));
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(|c| c.trim().to_owned()).collect();
    table.skip(2).map(cells).collect()
}

/// The text of a cell that is code.
pub fn code(cell: &str) -> &str {
    cell.trim_matches('`')
}

impl Schema {
    pub fn read(text: &str) -> Schema {
        let codes = |cell: &str| cell.split_whitespace().map(|w| code(w).to_owned()).collect::<Vec<_>>();
        let mut words: BTreeMap<_, _> =
            rows(text, "Words").into_iter().map(|r| (r[0].clone(), codes(&r[1]))).collect();
        for (list, heading) in [("rank", "Ranks"), ("kind", "Kinds")] {
            words.insert(list.into(), rows(text, heading).iter().map(|r| code(&r[0]).to_owned()).collect());
        }
        let key = |row: &Vec<String>| {
            let ty = row[1].strip_suffix(", may be absent");
            Key {
                name: code(&row[0]).to_owned(),
                ty: ty.unwrap_or(&row[1]).to_owned(),
                may_be_absent: ty.is_some(),
            }
        };
        let headings = text.lines().filter_map(|line| line.strip_prefix("### "));
        let shapes = headings.map(|h| (h.to_owned(), rows(text, h).iter().map(key).collect())).collect();
        Schema { shapes, words, seen: BTreeSet::new() }
    }

    /// Words of a list.
    pub fn words(&self, list: &str) -> &[String] {
        &self.words[list]
    }

    /// Panics if a value differs from the table under this heading, and names the place.
    pub fn check(&mut self, heading: &str, value: &Value) {
        self.shape(heading, value, heading);
    }

    /// Documented keys and words that occur in no checked report.
    pub fn unseen(&self) -> Vec<String> {
        let keys = self
            .shapes
            .iter()
            .flat_map(|(shape, keys)| keys.iter().map(move |k| format!("{shape}.{}", k.name)));
        let lists = ["rank", "kind", "basis", "acquire", "verdict", "change", "use", "mode", "step of table"];
        let words =
            lists.iter().flat_map(|list| self.words[*list].iter().map(move |w| format!("{list} {w}")));
        keys.chain(words).filter(|what| !self.seen.contains(what)).collect()
    }

    fn shape(&mut self, shape: &str, value: &Value, at: &str) {
        let Some(object) = value.as_object() else { panic!("{at} is no object: {value}") };
        let keys = self.shapes.get(shape).unwrap_or_else(|| panic!("{at}: there is no table `{shape}`"));
        let documented: Vec<(String, String)> = keys.iter().map(|k| (k.name.clone(), k.ty.clone())).collect();
        let missing = keys.iter().find(|k| !k.may_be_absent && !object.contains_key(&k.name));
        assert!(missing.is_none(), "{at}.{} is documented and not there", missing.unwrap().name);
        for (name, inner) in object {
            let ty = documented.iter().find(|(n, _)| n == name).map(|(_, ty)| ty);
            let ty = ty.unwrap_or_else(|| panic!("{at}.{name} is not documented"));
            self.seen.insert(format!("{shape}.{name}"));
            let ty = match ty.as_str() {
                "evidence" => format!("evidence of {}", object["kind"].as_str().unwrap()),
                ty => ty.to_owned(),
            };
            self.value(&ty, inner, &format!("{at}.{name}"));
        }
    }

    fn value(&mut self, ty: &str, value: &Value, at: &str) {
        if let Some(ty) = ty.strip_suffix(" or null") {
            if !value.is_null() {
                self.value(ty, value, at);
            }
            return;
        }
        if let Some(ty) = ty.strip_prefix("list of ") {
            let Some(list) = value.as_array() else { panic!("{at} is no list: {value}") };
            for (i, inner) in list.iter().enumerate() {
                self.value(ty, inner, &format!("{at}[{i}]"));
            }
            return;
        }
        let good = match ty {
            "string" => value.is_string(),
            "address" => value.as_str().is_some_and(|s| s.starts_with("0x")),
            "number" => value.is_u64(),
            "bool" => value.is_boolean(),
            "kind count" => {
                value.as_array().is_some_and(|a| a.len() == 2 && a[0].is_string() && a[1].is_u64())
            }
            "totals by reason" => value.as_object().is_some_and(|o| {
                o.iter().all(|(reason, total)| self.words["reason"].contains(reason) && total.is_u64())
            }),
            "end" => {
                value["command"].is_i64()
                    || ["interrupted", "duration", "quit", "source"].iter().any(|e| value == e)
            }
            list if self.words.contains_key(list) => {
                let word = value.as_str().unwrap_or_default();
                self.seen.insert(format!("{list} {word}"));
                self.words[list].iter().any(|w| w == word)
            }
            shape => return self.shape(shape, value, at),
        };
        assert!(good, "{at} is not a {ty}: {value}");
    }
}
