//! A Markdown document as a list of snippets, each with what it is said to print.
//!
//! Strict, so that nothing slips through: a fence is a snippet (`sh`, `python`), the output of the snippet before it
//! (`json`, `text`), or marked by a comment in the line above it as not executed.

use std::{fs, path::PathBuf};

/// What a snippet is pasted into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Shell,
    Python,
}

/// What is printed, and how it is compared.
#[derive(Clone, Debug)]
pub struct Output {
    pub text: String,
    pub is_json: bool,
}

/// One snippet.
#[derive(Clone, Debug)]
pub struct Snippet {
    pub language: Language,
    pub line: usize,
    pub text: String,
    pub output: Option<Output>,
}

/// The snippets of a document, or of a section of it.
#[derive(Debug)]
pub struct Document {
    pub name: String,
    pub snippets: Vec<Snippet>,
    /// Fences that are marked as not executed.
    pub not_executed: usize,
}

/// A file of this repository.
pub fn text_of(path: &str) -> String {
    fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

impl Document {
    /// Reads a file of this repository, or the section of it below `heading`.
    pub fn read(path: &str, heading: Option<&str>) -> Self {
        let text = text_of(path);
        let Some(heading) = heading else { return Self::of(path, &text) };
        let start = text.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("{path} has no `{heading}`")) + 1;
        let end = text[start + 1..].find("\n## ").map_or(text.len(), |length| start + 1 + length);
        Self::of(path, &text[start..end])
    }

    /// Takes a text apart.
    pub fn of(name: &str, text: &str) -> Self {
        let mut document = Self { name: name.to_owned(), snippets: Vec::new(), not_executed: 0 };
        let mut lines = text.lines().enumerate();
        let (mut is_marked, mut takes_output) = (false, false);
        while let Some((number, line)) = lines.next() {
            let Some(language) = line.strip_prefix("```") else {
                is_marked = line.starts_with("<!-- not executed: ") || (is_marked && line.is_empty());
                continue;
            };
            let mut body: Vec<&str> = Vec::new();
            loop {
                let (_, line) =
                    lines.next().unwrap_or_else(|| panic!("{name} line {}: a fence without end", number + 1));
                if line == "```" {
                    break;
                }
                body.push(line);
            }
            let text = body.join("\n");
            if std::mem::take(&mut is_marked) {
                document.not_executed += 1;
                takes_output = false;
                continue;
            }
            let runs_in = match language {
                "sh" => Some(Language::Shell),
                "python" => Some(Language::Python),
                _ => None,
            };
            match (runs_in, document.snippets.last_mut()) {
                (Some(language), _) => {
                    document.snippets.push(Snippet { language, line: number + 1, text, output: None });
                    takes_output = true;
                }
                (None, Some(snippet)) if takes_output && ["json", "text"].contains(&language) => {
                    snippet.output = Some(Output { text, is_json: language == "json" });
                    takes_output = false;
                }
                (None, _) => panic!("{name} line {}: neither a snippet nor the output of one", number + 1),
            }
        }
        document
    }
}
