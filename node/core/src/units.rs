//! Administrative units: what a code meant on a day, and which unit contains which.

use crate::date::Date;
use crate::ids::UnitId;

/// A unit as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named<'a> {
    /// Its official code: two digits for a province and the centre, three for a district, five for a commune.
    pub code: &'a str,
    /// A day on which that code means this unit; always the same one for a unit.
    pub at: Date,
    /// Its name, with its kind in front ("Phường Phúc Xá").
    pub name: &'a str,
}

/// From codes to units and back.
pub trait Resolve {
    /// The unit that `code` meant on the day `at`.
    fn unit(&self, code: &str, at: Date) -> Option<UnitId>;
    /// How `unit` is written.
    fn named(&self, unit: UnitId) -> Option<Named<'_>>;
}

/// Knows no unit: for places where values hold ids only.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoUnits;

impl Resolve for NoUnits {
    fn unit(&self, _code: &str, _at: Date) -> Option<UnitId> {
        None
    }
    fn named(&self, _unit: UnitId) -> Option<Named<'_>> {
        None
    }
}
