//! What was found, as text: a table for people, tabs for pipes, JSON for programs.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::records::Origin;
use super::search::Match;

/// A match with all that is said about it.
#[derive(Clone, Debug)]
pub struct Named {
    /// The match.
    pub found: Match,
    /// The file of its database, as it was named.
    pub database: String,
    /// Its image.
    pub origin: Origin,
}

/// What was found for each query.
#[derive(Debug)]
pub struct Results {
    /// Where each query came from.
    pub queries: Vec<Origin>,
    /// The matches of each, best first.
    pub matches: Vec<Vec<Named>>,
    /// The greatest distance of a match.
    pub threshold: f64,
}

/// The text in one line.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

impl Results {
    /// How many queries have a match.
    pub fn matched(&self) -> usize {
        self.matches.iter().filter(|m| !m.is_empty()).count()
    }

    fn rows(&self) -> impl Iterator<Item = [String; 4]> {
        self.queries.iter().zip(&self.matches).flat_map(|(query, matches)| {
            matches.iter().map(|m| {
                let distance = format!("{:.3}", m.found.distance());
                [plain(&query.name), distance, plain(&m.database), plain(&m.origin.name)]
            })
        })
    }

    /// A line for each match: query, distance, database, image; tabs between them.
    pub fn write_tabs(&self, out: &mut dyn Write) -> io::Result<()> {
        self.rows().try_for_each(|row| writeln!(out, "{}", row.join("\t")))
    }

    /// The same in columns, with a head; and what was not found.
    pub fn write_table(&self, out: &mut dyn Write) -> io::Result<()> {
        let head = ["QUERY", "DISTANCE", "DATABASE", "IMAGE"].map(String::from);
        let rows: Vec<[String; 4]> = std::iter::once(head).chain(self.rows()).collect();
        let widths: [usize; 4] = std::array::from_fn(|column| {
            rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
        });
        if rows.len() > 1 {
            for [query, distance, database, image] in &rows {
                let [a, b, c, _] = widths;
                writeln!(out, "{query:<a$}  {distance:>b$}  {database:<c$}  {image}")?;
            }
        }
        let (matched, all) = (self.matched(), self.queries.len());
        let within = self.threshold;
        writeln!(out, "{matched} of {all} queries have a match within {within}")
    }

    /// One object, with a field for each query.
    pub fn json(&self) -> Value {
        let queries = self.queries.iter().zip(&self.matches).map(|(query, matches)| {
            let matches = matches.iter().map(|m| {
                json!({
                    "database": m.database,
                    "record": m.found.record,
                    "image": m.origin.name,
                    "distance": m.found.distance(),
                    "squared": m.found.squared,
                })
            });
            json!({ "query": query.name, "matches": matches.collect::<Value>() })
        });
        json!({ "threshold": self.threshold, "queries": queries.collect::<Value>() })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn results() -> Results {
        let origin = |name: &str| Origin { name: name.into(), file: None };
        let named = |record, squared, name: &str| Named {
            found: Match { database: 0, record, squared },
            database: "pets.records".into(),
            origin: origin(name),
        };
        Results {
            queries: vec![origin("a.png"), origin("long\tname.png")],
            matches: vec![vec![named(3, 0, "<cat>.png"), named(9, 250, "dog.png")], vec![]],
            threshold: 20.0,
        }
    }

    fn text(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_are_aligned() {
        let table = "\
QUERY  DISTANCE  DATABASE      IMAGE
a.png     0.000  pets.records  <cat>.png
a.png    15.811  pets.records  dog.png
1 of 2 queries have a match within 20
";
        assert_eq!(text(|out| results().write_table(out)), table);
        let mut none = results();
        none.matches = vec![vec![], vec![]];
        let line = "0 of 2 queries have a match within 20\n";
        assert_eq!(text(|out| none.write_table(out)), line);
    }

    #[test]
    fn lines_have_four_fields() {
        let lines = "a.png\t0.000\tpets.records\t<cat>.png\na.png\t15.811\tpets.records\tdog.png\n";
        assert_eq!(text(|out| results().write_tabs(out)), lines);
        let value = results().json();
        assert_eq!(value["queries"][0]["matches"][1]["squared"], 250);
        assert_eq!(value["queries"][1]["query"], "long\tname.png");
        assert_eq!(value["queries"][1]["matches"], json!([]));
    }
}
