//! The routing tree: which receivers an alert goes to, and with which others it is grouped.

use std::collections::BTreeMap;

use model::{Labels, Matcher, matches_all};

/// How alerts of a route are grouped and timed.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteOptions {
    pub receiver: String,
    /// `None`: by all labels (`['...']`).
    pub group_by: Option<Vec<String>>,
    pub group_wait_ms: i64,
    pub group_interval_ms: i64,
    pub repeat_interval_ms: i64,
    pub mute_time_intervals: Vec<String>,
    pub active_time_intervals: Vec<String>,
    /// Templates by name, for `routeLabels`; a parent's where a route has none of its own.
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Names the route in group keys: the matchers from the root to here.
    pub key: String,
    pub matchers: Vec<Matcher>,
    pub go_on: bool,
    pub options: RouteOptions,
    pub children: Vec<Route>,
}

impl Route {
    /// The routes that take an alert, depth first; a parent only when no child does.
    pub fn find<'a>(&'a self, labels: &Labels) -> Vec<&'a Route> {
        if !matches_all(&self.matchers, labels) {
            return Vec::new();
        }
        let mut found = Vec::new();
        for child in &self.children {
            let taken = child.find(labels);
            let ends = !taken.is_empty() && !child.go_on;
            found.extend(taken);
            if ends {
                break;
            }
        }
        if found.is_empty() {
            found.push(self);
        }
        found
    }

    pub fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Route)) {
        visit(self);
        for child in &self.children {
            child.walk(visit);
        }
    }

    pub fn group_labels(&self, labels: &Labels) -> Labels {
        match &self.options.group_by {
            None => labels.clone(),
            Some(names) => labels.only(&names.iter().map(String::as_str).collect::<Vec<_>>()),
        }
    }

    /// Identity of a group: the route and the labels it groups by.
    pub fn group_key(&self, group_labels: &Labels) -> String {
        format!("{}:{group_labels}", self.key)
    }
}
