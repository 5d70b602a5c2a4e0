//! `targets` and `ignore` of a quantization config: class names, module names, and `re:` patterns matched from the start.
//!
//! Of Python's regular expressions it knows `.`, classes, `\d \w \s` and escapes, groups, `|`, `* + ?`, `^ $`. Matching
//! keeps the set of positions reached, so no pattern takes more than polynomial time.

use std::collections::BTreeSet;

/// Deepest nesting of groups.
const MAX_DEPTH: usize = 32;

/// Whether an entry means this module. `None`: the pattern is beyond what is known here.
pub(super) fn matches(entry: &str, module: &str, class: &str) -> Option<bool> {
    let Some(pattern) = entry.strip_prefix("re:") else { return Some(entry == module || entry == class) };
    let mut parser = Parser { rest: pattern.chars().collect(), at: 0 };
    let node = parser.alternatives(0)?;
    if parser.at < parser.rest.len() {
        return None;
    }
    let text: Vec<char> = module.chars().collect();
    Some(!node.reach(&text, &BTreeSet::from([0])).is_empty())
}

enum Node {
    /// One character; `is_negated` turns the ranges around.
    One {
        ranges: Vec<(char, char)>,
        is_negated: bool,
    },
    All(Vec<Node>),
    Any(Vec<Node>),
    Repeat {
        node: Box<Node>,
        least: usize,
        is_endless: bool,
    },
    Start,
    End,
}

impl Node {
    /// The positions that can be reached from some positions.
    fn reach(&self, text: &[char], from: &BTreeSet<usize>) -> BTreeSet<usize> {
        match self {
            Self::One { ranges, is_negated } => {
                let fits = |c: &char| ranges.iter().any(|(a, b)| (a..=b).contains(&c)) != *is_negated;
                from.iter().filter(|&&p| text.get(p).is_some_and(fits)).map(|p| p + 1).collect()
            }
            Self::All(nodes) => nodes.iter().fold(from.clone(), |from, node| node.reach(text, &from)),
            Self::Any(nodes) => nodes.iter().flat_map(|node| node.reach(text, from)).collect(),
            Self::Repeat { node, least, is_endless } => {
                let once = (0..*least).fold(from.clone(), |from, _| node.reach(text, &from));
                let mut all = once.clone();
                let mut new = once;
                while !new.is_empty() {
                    new = node.reach(text, &new).difference(&all).copied().collect();
                    all.extend(&new);
                    if !is_endless {
                        break;
                    }
                }
                all
            }
            Self::Start => from.iter().copied().filter(|&p| p == 0).collect(),
            Self::End => from.iter().copied().filter(|&p| p == text.len()).collect(),
        }
    }
}

struct Parser {
    rest: Vec<char>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.rest.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    fn alternatives(&mut self, depth: usize) -> Option<Node> {
        if depth > MAX_DEPTH {
            return None;
        }
        let mut all = vec![self.sequence(depth)?];
        while self.peek() == Some('|') {
            self.at += 1;
            all.push(self.sequence(depth)?);
        }
        Some(Node::Any(all))
    }

    fn sequence(&mut self, depth: usize) -> Option<Node> {
        let mut nodes = Vec::new();
        while let Some(c) = self.peek().filter(|c| !['|', ')'].contains(c)) {
            self.at += 1;
            let node = match c {
                '.' => Node::One { ranges: Vec::new(), is_negated: true },
                '^' => Node::Start,
                '$' => Node::End,
                '[' => self.class()?,
                '(' => self.group(depth)?,
                '\\' => Node::One { ranges: escape(self.next()?)?, is_negated: false },
                '*' | '+' | '?' | '{' => return None,
                c => Node::One { ranges: vec![(c, c)], is_negated: false },
            };
            let (least, is_endless) = match self.peek() {
                Some('*') => (0, true),
                Some('+') => (1, true),
                Some('?') => (0, false),
                Some('{') => return None,
                _ => {
                    nodes.push(node);
                    continue;
                }
            };
            self.at += 1;
            // Lazy repeats reach the same positions.
            if self.peek() == Some('?') {
                self.at += 1;
            }
            nodes.push(Node::Repeat { node: Box::new(node), least, is_endless });
        }
        Some(Node::All(nodes))
    }

    fn group(&mut self, depth: usize) -> Option<Node> {
        if self.peek() == Some('?') {
            self.at += 1;
            if self.next()? != ':' {
                return None;
            }
        }
        let node = self.alternatives(depth + 1)?;
        (self.next()? == ')').then_some(node)
    }

    fn class(&mut self) -> Option<Node> {
        let is_negated = self.peek() == Some('^');
        self.at += usize::from(is_negated);
        let mut ranges = Vec::new();
        loop {
            match self.next()? {
                ']' if !ranges.is_empty() => return Some(Node::One { ranges, is_negated }),
                '\\' => ranges.extend(escape(self.next()?)?),
                from if self.peek() == Some('-') && self.rest.get(self.at + 1).is_some_and(|c| *c != ']') => {
                    self.at += 1;
                    ranges.push((from, self.next()?));
                }
                c => ranges.push((c, c)),
            }
        }
    }
}

fn escape(c: char) -> Option<Vec<(char, char)>> {
    match c {
        'd' => Some(vec![('0', '9')]),
        'w' => Some(vec![('a', 'z'), ('A', 'Z'), ('0', '9'), ('_', '_')]),
        's' => Some(vec![(' ', ' '), ('\t', '\r')]),
        c if c.is_ascii_alphanumeric() => None,
        c => Some(vec![(c, c)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_from_the_start_as_in_python() {
        let module = "model.layers.3.mlp.gate";
        let is = |entry| matches(entry, module, "Linear");
        assert_eq!(is("Linear"), Some(true));
        assert_eq!(is("model.layers.3.mlp.gate"), Some(true));
        assert_eq!(is("re:.*mlp.gate$"), Some(true));
        assert_eq!(is("re:.*mlp"), Some(true));
        assert_eq!(is("re:mlp"), Some(false));
        assert_eq!(is(r"re:model\.layers\.[0-4]\..*(gate|up)$"), Some(true));
        assert_eq!(is(r"re:model\.layers\.[^0-4]\..*"), Some(false));
        assert_eq!(is(r"re:model\.layers\.\d+\.mlp\.(?:up|down)$"), Some(false));
        assert_eq!(is("re:(?!x).*"), None);
        assert_eq!(is("re:a{2}"), None);
        assert_eq!(is("re:("), None);
    }

    #[test]
    fn patterns_that_are_slow_elsewhere_are_quick_here() {
        let text = "a".repeat(200);
        assert_eq!(matches("re:((a*)*)*b", &text, "Linear"), Some(false));
    }
}
