//! What callgrind writes down: instructions in all, and of each function with all that it calls.
//!
//! Of its format (version 1) this reads the total, the names, which stand once beside a number, and the costs of calls.

use std::collections::BTreeMap;

use anyhow::Context as _;

/// Instructions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// All.
    pub total: u64,
    /// Of calls of a function, by its name.
    inside: BTreeMap<String, u64>,
}

impl Counts {
    /// Reads callgrind's file.
    pub fn read(text: &str) -> anyhow::Result<Self> {
        let (mut total, mut names, mut inside) = (None, BTreeMap::new(), BTreeMap::new());
        let (mut called, mut is_cost_of_call) = ("", false);
        for line in text.lines() {
            if is_cost_of_call {
                // Where the call stands, and what it took.
                let cost = line.split(' ').nth(1).context("a call without a cost")?;
                *inside.entry(called.to_owned()).or_default() += cost.parse::<u64>()?;
                is_cost_of_call = false;
            } else if let Some(sum) = line.strip_prefix("totals: ") {
                total = Some(sum.trim().parse()?);
            } else if let Some(function) = line.strip_prefix("cfn=") {
                called = name(&mut names, function);
            } else if let Some(function) = line.strip_prefix("fn=") {
                name(&mut names, function);
            } else {
                is_cost_of_call = line.starts_with("calls=");
            }
        }
        Ok(Counts { total: total.context("callgrind told no total")?, inside })
    }

    /// Of all calls of the function whose path ends so, with all that it called. A function that calls itself counts twice.
    pub fn inside(&self, function: &str) -> u64 {
        self.inside.iter().filter(|(name, _)| name.ends_with(function)).map(|(_, cost)| cost).sum()
    }
}

/// The name in `(7) name`, or of the number alone.
fn name<'t>(names: &mut BTreeMap<&'t str, &'t str>, told: &'t str) -> &'t str {
    match told.split_once(' ') {
        Some((number, name)) => {
            names.insert(number, name);
            name
        }
        None => names.get(told).copied().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_function_called_is_summed_over_its_callers() {
        let text = "fn=(1) a::apply\n12 5\ncfn=(2) a::count\ncalls=2 7\n13 40\n\nfn=(3) b::other\n1 1\ncfi=(9)\ncfn=(2)\ncalls=1 7\n+2 2\ntotals: 48\n";
        let counts = Counts::read(text).unwrap();
        assert_eq!((counts.total, counts.inside("::count"), counts.inside("::apply")), (48, 42, 0));
    }
}
