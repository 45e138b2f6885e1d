//! What the stories are told with: sites of real processes on this machine, lines between them that can be cut, officers
//! who keep what they were told, and the comparison of what every node holds with it.
//!
//! Read bottom up: [`mod@line`], [`process`], [`disk`], [`country`], [`officer`], [`evidence`], [`crash`]. The stories are in `tests/stories`, one
//! file each. Helpers panic with what they wanted and what they found: they are parts of tests.

pub mod line;

pub mod process;

pub mod disk;

pub mod country;

pub mod officer;

pub mod evidence;

pub mod crash;
