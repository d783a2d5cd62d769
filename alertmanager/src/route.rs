//! The routing tree: which receivers an alert goes to, and with which others it is grouped.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Labels, Matcher, matches_all};

/// How alerts of a route are grouped and timed.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteOptions {
    /// The route's place in the tree, children first: it tells routes with the same matchers apart.
    pub place: usize,
    /// Names the route in group keys: the matchers from the root to here.
    pub key: String,
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

impl RouteOptions {
    /// Identity of a group: the route and the labels it groups by.
    pub fn group_key(&self, group_labels: &Labels) -> String {
        format!("{}:{group_labels}", self.key)
    }

    pub fn group_labels(&self, labels: &Labels) -> Labels {
        match &self.group_by {
            None => labels.clone(),
            Some(names) => labels.only(&names.iter().map(String::as_str).collect::<Vec<_>>()),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    pub matchers: Vec<Matcher>,
    pub go_on: bool,
    pub options: Arc<RouteOptions>,
    pub children: Vec<Route>,
}

impl Route {
    /// The routes that take an alert, depth first; a parent only when no child does.
    pub fn find<'a>(&'a self, labels: &Labels) -> Vec<&'a Route> {
        let mut found = Vec::new();
        self.collect(labels, &mut found);
        found
    }

    /// Adds the routes that take an alert; says whether there are any.
    fn collect<'a>(&'a self, labels: &Labels, found: &mut Vec<&'a Route>) -> bool {
        if !matches_all(&self.matchers, labels) {
            return false;
        }
        let before = found.len();
        for child in &self.children {
            if child.collect(labels, found) && !child.go_on {
                break;
            }
        }
        if found.len() == before {
            found.push(self);
        }
        true
    }

    pub fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Route)) {
        visit(self);
        for child in &self.children {
            child.walk(visit);
        }
    }
}
