//! How a scenario names nodes and ends of lines, and how these names are written.

use std::fmt;
use std::str::FromStr;

/// A node: `10/1`, `10/leader`, `10/follower`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeRef {
    /// Code of its site.
    pub site: String,
    /// Which of the site's.
    pub which: Which,
}

/// Which node of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    /// By number, from 1. A node that joins later has the next; numbers are never used again.
    Number(u8),
    /// Whoever leads the site's first group when the fault begins.
    Leader,
    /// The first by number, when the fault begins, of those that do not lead the site's first group.
    Follower,
}

/// An end of a line: a whole site (`10`) or a node (`10/2`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// All nodes of the site with this code.
    Site(String),
    /// One node.
    Node(NodeRef),
}

impl Place {
    /// The code of its site.
    #[must_use]
    pub fn site(&self) -> &str {
        match self {
            Place::Site(code) => code,
            Place::Node(node) => &node.site,
        }
    }
}

/// The text names no node, or no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it must be a code, a `/` and a number from 1, `leader` or `follower`")]
pub struct RefError;

impl fmt::Display for NodeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.which {
            Which::Number(number) => write!(f, "{}/{number}", self.site),
            Which::Leader => write!(f, "{}/leader", self.site),
            Which::Follower => write!(f, "{}/follower", self.site),
        }
    }
}

impl FromStr for NodeRef {
    type Err = RefError;
    fn from_str(text: &str) -> Result<Self, RefError> {
        let (site, which) = text.split_once('/').ok_or(RefError)?;
        let which = match which {
            "leader" => Which::Leader,
            "follower" => Which::Follower,
            number => match number.parse() {
                // One way to write it, so that equal files mean equal things.
                Ok(n) if n > 0 && !number.starts_with(['0', '+']) => Which::Number(n),
                _ => return Err(RefError),
            },
        };
        Ok(NodeRef { site: site.to_owned(), which })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Site(code) => f.write_str(code),
            Place::Node(node) => node.fmt(f),
        }
    }
}

impl FromStr for Place {
    type Err = RefError;
    fn from_str(text: &str) -> Result<Self, RefError> {
        if text.contains('/') { text.parse().map(Place::Node) } else { Ok(Place::Site(text.to_owned())) }
    }
}
