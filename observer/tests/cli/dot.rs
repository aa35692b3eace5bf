//! A parser for the part of Graphviz's language that the export uses: statements, quoted names, lists of attributes.

use std::collections::BTreeMap;

pub struct Edge {
    pub from: String,
    pub to: String,
    pub attributes: BTreeMap<String, String>,
}

#[derive(Default)]
pub struct Graph {
    pub nodes: Vec<String>,
    pub edges: Vec<Edge>,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// A name or a number; quoted or not.
    Id(String),
    Arrow,
    Mark(char),
}

/// Parses a graph; panics at invalid text.
pub fn parse(text: &str) -> Graph {
    let mut tokens = tokens(text).into_iter().peekable();
    let mut next = || tokens.next();
    let expect = |token: Option<Token>, what: Token| assert_eq!(token, Some(what));
    expect(next(), Token::Id("digraph".into()));
    assert!(matches!(next(), Some(Token::Id(_))));
    expect(next(), Token::Mark('{'));
    let mut graph = Graph::default();
    loop {
        let from = match next() {
            Some(Token::Id(name)) => name,
            Some(Token::Mark('}')) => break,
            other => panic!("no statement: {other:?}"),
        };
        let (to, then) = match next() {
            Some(Token::Arrow) => match next() {
                Some(Token::Id(to)) => (Some(to), next()),
                other => panic!("no end of an edge: {other:?}"),
            },
            other => (None, other),
        };
        let mut attributes = BTreeMap::new();
        let end = if then == Some(Token::Mark('[')) {
            loop {
                let (Some(Token::Id(key)), Some(Token::Mark('=')), Some(Token::Id(value))) =
                    (next(), next(), next())
                else {
                    panic!("no attribute of {from}")
                };
                attributes.insert(key, value);
                match next() {
                    Some(Token::Mark(',')) => {}
                    Some(Token::Mark(']')) => break next(),
                    other => panic!("no end of the attributes of {from}: {other:?}"),
                }
            }
        } else {
            then
        };
        expect(end, Token::Mark(';'));
        match to {
            Some(to) => graph.edges.push(Edge { from, to, attributes }),
            None if ["graph", "node", "edge"].contains(&from.as_str()) => {}
            None => graph.nodes.push(from),
        }
    }
    assert_eq!(next(), None);
    graph
}

fn tokens(text: &str) -> Vec<Token> {
    let mut chars = text.chars().peekable();
    let mut tokens = Vec::new();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => {}
            '-' => {
                assert_eq!(chars.next(), Some('>'));
                tokens.push(Token::Arrow);
            }
            '"' => {
                let mut name = String::new();
                loop {
                    match chars.next().expect("an open string") {
                        '"' => break,
                        '\\' => name.extend(['\\', chars.next().unwrap()]),
                        c => name.push(c),
                    }
                }
                tokens.push(Token::Id(name));
            }
            c if c.is_alphanumeric() => {
                let mut name = String::from(c);
                while let Some(c) = chars.next_if(|c| c.is_alphanumeric() || *c == '_' || *c == '.') {
                    name.push(c);
                }
                tokens.push(Token::Id(name));
            }
            c => tokens.push(Token::Mark(c)),
        }
    }
    tokens
}
