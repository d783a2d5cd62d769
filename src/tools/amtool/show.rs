//! Output in amtool's formats.

use clap::ValueEnum;
use serde_json::Value;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Simple,
    Extended,
    Json,
}

/// Go's layout of dates.
pub struct Dates(pub String);

impl Dates {
    fn show(&self, value: &Value) -> String {
        let text = value.as_str().unwrap_or("");
        match super::instant(text) {
            Ok(ms) => alertmanager::tool::format_time(ms, &self.0),
            Err(_) => text.to_owned(),
        }
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or("")
}

/// Aligned columns, two spaces apart, each row with its last cell padded too.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}  "));
        cells.collect::<String>() + "\n"
    };
    rows.iter().map(line).collect()
}

fn head(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// `a="b" c="d"`.
fn labels(value: &Value) -> String {
    let pairs = value.as_object().into_iter().flatten();
    let shown: Vec<String> =
        pairs.map(|(name, value)| format!("{name}=\"{}\"", value.as_str().unwrap_or(""))).collect();
    shown.join(" ")
}

fn matcher(value: &Value) -> String {
    let sign = match (value["isRegex"] == true, value["isEqual"] != false) {
        (false, true) => "=",
        (false, false) => "!=",
        (true, true) => "=~",
        (true, false) => "!~",
    };
    let name = text(value, "name");
    let name = if model::is_label_name(name) { name.to_owned() } else { format!("{name:?}") };
    format!("{name}{sign}{:?}", text(value, "value"))
}

fn matchers(silence: &Value, format: Format) -> String {
    let set = |set: &Value| {
        let all: Vec<String> = set.as_array().into_iter().flatten().map(matcher).collect();
        if format == Format::Extended { format!("{{{}}}", all.join(",")) } else { all.join(" ") }
    };
    match silence["matcherSets"].as_array() {
        Some(sets) => sets.iter().map(set).collect::<Vec<_>>().join(" or "),
        None => set(&silence["matchers"]),
    }
}

pub fn alerts(mut alerts: Vec<Value>, format: Format, dates: &Dates) -> String {
    if format == Format::Json {
        return Value::from(alerts).to_string() + "\n";
    }
    alerts.sort_by(|a, b| text(a, "startsAt").cmp(text(b, "startsAt")));
    let names: &[&str] = match format {
        Format::Extended => &["Labels", "Annotations", "Starts At", "Ends At", "Generator URL", "State"],
        _ => &["Alertname", "Starts At", "Summary", "State"],
    };
    let row = |alert: &Value| {
        let state = text(&alert["status"], "state").to_owned();
        let starts = dates.show(&alert["startsAt"]);
        match format {
            Format::Extended => vec![
                labels(&alert["labels"]),
                labels(&alert["annotations"]),
                starts,
                dates.show(&alert["endsAt"]),
                text(alert, "generatorURL").to_owned(),
                state,
            ],
            _ => {
                let (name, summary) = (text(&alert["labels"], "alertname"), text(&alert["annotations"], "summary"));
                vec![name.to_owned(), starts, summary.to_owned(), state]
            }
        }
    };
    let rows: Vec<Vec<String>> = std::iter::once(head(names)).chain(alerts.iter().map(row)).collect();
    table(&rows)
}

pub fn silences(mut silences: Vec<Value>, format: Format, dates: &Dates) -> String {
    if format == Format::Json {
        return Value::from(silences).to_string() + "\n";
    }
    silences.sort_by(|a, b| text(a, "endsAt").cmp(text(b, "endsAt")));
    let names: &[&str] = match format {
        Format::Extended => &["ID", "Matchers", "Starts At", "Ends At", "Updated At", "Created By", "Comment"],
        _ => &["ID", "Matchers", "Ends At", "Created By", "Comment"],
    };
    let row = |silence: &Value| {
        let (id, by, comment) = (text(silence, "id"), text(silence, "createdBy"), text(silence, "comment"));
        let mut row = vec![id.to_owned(), matchers(silence, format)];
        if format == Format::Extended {
            row.push(dates.show(&silence["startsAt"]));
        }
        row.push(dates.show(&silence["endsAt"]));
        if format == Format::Extended {
            row.push(dates.show(&silence["updatedAt"]));
        }
        row.extend([by.to_owned(), comment.to_owned()]);
        row
    };
    let rows: Vec<Vec<String>> = std::iter::once(head(names)).chain(silences.iter().map(row)).collect();
    table(&rows)
}

pub fn config(status: &Value, format: Format) {
    match format {
        Format::Json => println!("{status}"),
        Format::Simple => println!("{}", text(&status["config"], "original")),
        Format::Extended => {
            println!("{}", text(&status["config"], "original"));
            for name in ["buildUser", "goVersion", "revision", "version", "branch", "buildDate"] {
                println!("{name} {}", text(&status["versionInfo"], name));
            }
            println!("uptime {}", text(status, "uptime"));
        }
    }
}

pub fn cluster(status: &Value, format: Format) {
    if format == Format::Json {
        return println!("{status}");
    }
    println!("Cluster Status:  {}\nNode Name:       {}", text(status, "status"), text(status, "name"));
    if format == Format::Extended {
        let peers = status["peers"].as_array().into_iter().flatten();
        let row = |peer: &Value| vec![text(peer, "address").to_owned(), text(peer, "name").to_owned()];
        let rows: Vec<Vec<String>> = std::iter::once(head(&["Address", "Name"])).chain(peers.map(row)).collect();
        print!("\n{}", table(&rows));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn dates() -> Dates {
        Dates("2006-01-02 15:04:05 MST".to_owned())
    }

    fn check_alerts(format: Format, expected: &str) {
        let alert = |name: &str, starts: &str| {
            json!({"labels": {"alertname": name, "i": "1"}, "annotations": {"summary": "s"}, "startsAt": starts,
                "endsAt": "2026-01-01T00:00:05.000Z", "generatorURL": "http://g", "status": {"state": "active"}})
        };
        let both = vec![alert("Down", "2026-01-01T00:00:01.000Z"), alert("A", "2026-01-01T00:00:00.000Z")];
        assert_eq!(alerts(both, format, &dates()), expected);
    }

    #[test]
    fn alerts_by_start() {
        check_alerts(
            Format::Simple,
            "Alertname  Starts At                Summary  State   \n\
             A          2026-01-01 00:00:00 UTC  s        active  \n\
             Down       2026-01-01 00:00:01 UTC  s        active  \n",
        );
        check_alerts(
            Format::Extended,
            "Labels                  Annotations  Starts At                Ends At                  Generator URL  State   \n\
             alertname=\"A\" i=\"1\"     summary=\"s\"  2026-01-01 00:00:00 UTC  2026-01-01 00:00:05 UTC  http://g       active  \n\
             alertname=\"Down\" i=\"1\"  summary=\"s\"  2026-01-01 00:00:01 UTC  2026-01-01 00:00:05 UTC  http://g       active  \n",
        );
    }

    #[test]
    fn silences_with_their_matchers() {
        let silence = json!({"id": "1", "createdBy": "me", "comment": "c", "startsAt": "2026-01-01T00:00:00.000Z",
            "updatedAt": "2026-01-01T00:00:00.000Z", "endsAt": "2026-01-01T00:00:05.000Z",
            "matchers": [{"name": "a", "value": "b", "isRegex": false, "isEqual": true},
                         {"name": "ä", "value": "d", "isRegex": true, "isEqual": false}]});
        let check = |format, expected: &str| {
            assert!(silences(vec![silence.clone()], format, &dates()).contains(expected));
        };
        check(Format::Simple, "1   a=\"b\" \"ä\"!~\"d\"  2026-01-01 00:00:05 UTC  me          c        \n");
        check(Format::Extended, "1   {a=\"b\",\"ä\"!~\"d\"}  2026-01-01 00:00:00 UTC  2026-01-01 00:00:05 UTC  ");
        check(Format::Json, "\"createdBy\":\"me\"");
    }
}
