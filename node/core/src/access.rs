//! What a caller may do: one pure function over claims, an action and a place.
//!
//! Owns: the table of (role, action), and the rule that authority reaches from a unit downwards. Promises: the same
//! answer at the door and again in `apply`, at every replica of a feature level. Leaves to others: how claims were resolved, yes/no
//! answers outside one's units (`match`, `verify`), two persons for grave changes, and the access log. Limit: roles are
//! fixed here; a role that the state invents needs a new version.

use std::fmt;

use crate::claims::{Claims, Role};
use crate::ids::UnitId;
use crate::level;

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Reads one record.
    Read,
    /// Searches records.
    Find,
    /// Reads who changed what in a record, and when.
    History,
    /// Changes a record or makes one.
    Edit,
    /// Decides a conflict, a suspicion or a hold.
    Resolve,
    /// Takes out many records.
    Export,
    /// Brings in many records.
    Import,
    /// Follows changes as they arrive.
    Watch,
    /// Reads who read what.
    AccessLog,
    /// Asks how a site, a link or an edit is doing.
    Status,
    /// Looks after a site: membership, levels, snapshots.
    Administer,
    /// Reads records of sites, which say nothing of people.
    ReadSites,
    /// Changes a record of a site or makes one.
    EditSites,
    /// Reads how many events there were: where few live, a number may tell of somebody.
    Figures,
    /// Gives personal numbers to those who wait for one.
    AssignNumbers,
    /// Grants blocks of personal numbers to the sites below.
    GrantNumbers,
    /// Reads a target that a unit was set, and its history: it says nothing of people.
    ReadTargets,
    /// Sets a target for a unit, changes or withdraws it.
    SetTargets,
}

impl Action {
    /// All actions.
    pub const ALL: [Action; 18] = [
        Action::Read,
        Action::Find,
        Action::History,
        Action::Edit,
        Action::Resolve,
        Action::Export,
        Action::Import,
        Action::Watch,
        Action::AccessLog,
        Action::Status,
        Action::Administer,
        Action::ReadSites,
        Action::EditSites,
        Action::Figures,
        Action::AssignNumbers,
        Action::GrantNumbers,
        Action::ReadTargets,
        Action::SetTargets,
    ];

    /// The action's name, as in denials, logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Action::Read => "read",
            Action::Find => "find",
            Action::History => "history",
            Action::Edit => "edit",
            Action::Resolve => "resolve",
            Action::Export => "export",
            Action::Import => "import",
            Action::Watch => "watch",
            Action::AccessLog => "access-log",
            Action::Status => "status",
            Action::Administer => "administer",
            Action::ReadSites => "read-sites",
            Action::EditSites => "edit-sites",
            Action::Figures => "figures",
            Action::AssignNumbers => "assign-numbers",
            Action::GrantNumbers => "grant-numbers",
            Action::ReadTargets => "read-targets",
            Action::SetTargets => "set-targets",
        }
    }

    /// The roles that may do it, each within its unit. An operator is absent wherever personal data is seen.
    #[must_use]
    pub fn roles(self) -> &'static [Role] {
        match self {
            Action::Read | Action::Find | Action::Watch => &[Role::Registrar],
            Action::Edit | Action::Resolve | Action::Export | Action::Import | Action::SetTargets => &[Role::Registrar],
            Action::History | Action::Figures => &[Role::Registrar, Role::Auditor],
            // Not the registrar: whoever reads must not see how reading is watched.
            Action::AccessLog => &[Role::Auditor],
            Action::Status | Action::ReadTargets => &Role::ALL,
            Action::Administer | Action::EditSites => &[Role::Operator],
            Action::ReadSites => &[Role::Operator, Role::Auditor],
            // Nobody's to ask for: a site's program does it by rule.
            Action::AssignNumbers | Action::GrantNumbers => &[Role::Site],
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a caller may not. It never names the place: to somebody outside, where a record's home is would be an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The role does not cover the action, anywhere.
    #[error("{action} needs the role {}, and this caller is {role}: ask somebody who has it", names(*.action))]
    Role {
        /// The caller's role.
        role: Role,
        /// What was asked.
        action: Action,
    },
    /// The role would do, but the place lies outside the caller's unit.
    #[error(
        "{action} needs the role {role} in the unit in question or in one above it, and {unit} is neither: ask there"
    )]
    Unit {
        /// The caller's role.
        role: Role,
        /// What was asked.
        action: Action,
        /// The caller's unit.
        unit: UnitId,
    },
    /// The place is not known here, so nobody's authority over it can be shown.
    #[error("{action} needs a known unit, and this one is not in the tree: check its id, or update the tree of units")]
    Nowhere {
        /// What was asked.
        action: Action,
    },
}

fn names(action: Action) -> String {
    action.roles().iter().map(|role| role.name()).collect::<Vec<_>>().join(" or ")
}

/// Whether a caller's role covers an action somewhere. A role above the feature level covers none.
#[must_use]
pub fn may_at_all(level: u16, claims: &Claims, action: Action) -> bool {
    level::has(level, claims.role.since()) && action.roles().contains(&claims.role)
}

/// Whether a caller with `claims` may do `action` at `place`: the path of a home unit, root first, home last. Authority
/// reaches downwards: the caller's unit must be the home or an ancestor of it.
pub fn decide(level: u16, claims: &Claims, action: Action, place: &[UnitId]) -> Result<(), Denied> {
    let Claims { role, unit, .. } = *claims;
    // The role first, so that the answer tells those who may not ask nothing about the place.
    if !may_at_all(level, claims, action) {
        return Err(Denied::Role { role, action });
    }
    if place.is_empty() {
        return Err(Denied::Nowhere { action });
    }
    if !place.contains(&unit) {
        return Err(Denied::Unit { role, action, unit });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::EvidenceId;
    use crate::level::LEVEL_FIRST;

    const CENTRE: UnitId = UnitId(1);
    const PROVINCE: UnitId = UnitId(10);
    const DISTRICT: UnitId = UnitId(100);
    const COMMUNE: UnitId = UnitId(1000);
    const OTHER_DISTRICT: UnitId = UnitId(200);
    const OTHER_COMMUNE: UnitId = UnitId(2000);

    fn claims(role: Role) -> Claims {
        Claims::new("officer", role, DISTRICT, EvidenceId::default()).unwrap()
    }

    /// For each action: may an operator, a registrar, an auditor do it within their unit?
    const TABLE: [(Action, [bool; 3]); 18] = [
        (Action::Read, [false, true, false]),
        (Action::Find, [false, true, false]),
        (Action::History, [false, true, true]),
        (Action::Edit, [false, true, false]),
        (Action::Resolve, [false, true, false]),
        (Action::Export, [false, true, false]),
        (Action::Import, [false, true, false]),
        (Action::Watch, [false, true, false]),
        (Action::AccessLog, [false, false, true]),
        (Action::Status, [true, true, true]),
        (Action::Administer, [true, false, false]),
        (Action::ReadSites, [true, false, true]),
        (Action::EditSites, [true, false, false]),
        (Action::Figures, [false, true, true]),
        (Action::AssignNumbers, [false, false, false]),
        (Action::GrantNumbers, [false, false, false]),
        (Action::ReadTargets, [true, true, true]),
        (Action::SetTargets, [false, true, false]),
    ];

    #[test]
    fn every_role_action_and_place_is_decided_as_the_table_says() {
        assert_eq!(TABLE.map(|(action, _)| action), Action::ALL);
        let inside: [&[UnitId]; 2] = [&[CENTRE, PROVINCE, DISTRICT, COMMUNE], &[CENTRE, PROVINCE, DISTRICT]];
        let outside: [&[UnitId]; 2] =
            [&[CENTRE, PROVINCE, OTHER_DISTRICT, OTHER_COMMUNE], &[CENTRE, PROVINCE, OTHER_DISTRICT]];
        let above: [&[UnitId]; 2] = [&[CENTRE, PROVINCE], &[CENTRE]];
        for (action, allowed) in TABLE {
            for (role, allowed) in Role::ALL.into_iter().zip(allowed) {
                let by_role = if allowed { Ok(()) } else { Err(Denied::Role { role, action }) };
                let by_unit = by_role.and(Err(Denied::Unit { role, action, unit: DISTRICT }));
                for place in inside {
                    assert_eq!(
                        decide(LEVEL_FIRST, &claims(role), action, place),
                        by_role,
                        "{role} {action} inside {place:?}"
                    );
                }
                for place in outside.into_iter().chain(above) {
                    assert_eq!(
                        decide(LEVEL_FIRST, &claims(role), action, place),
                        by_unit,
                        "{role} {action} at {place:?}"
                    );
                }
                let nowhere = by_role.and(Err(Denied::Nowhere { action }));
                assert_eq!(decide(LEVEL_FIRST, &claims(role), action, &[]), nowhere, "{role} {action} nowhere");
            }
        }
    }

    #[test]
    fn an_operator_sees_no_personal_data() {
        let personal = [Action::Read, Action::Find, Action::History, Action::Export, Action::Watch, Action::AccessLog];
        for action in personal {
            assert!(!action.roles().contains(&Role::Operator), "{action}");
        }
    }

    #[test]
    fn an_auditor_changes_nothing() {
        for action in [Action::Edit, Action::Resolve, Action::Import, Action::Administer, Action::EditSites] {
            assert!(!action.roles().contains(&Role::Auditor), "{action}");
        }
    }

    #[test]
    fn a_denial_says_what_is_missing_and_not_where_the_record_lives() {
        let denied = decide(LEVEL_FIRST, &claims(Role::Operator), Action::History, &[CENTRE]).unwrap_err();
        assert_eq!(
            denied.to_string(),
            "history needs the role registrar or auditor, and this caller is operator: ask somebody who has it"
        );
        let denied = decide(LEVEL_FIRST, &claims(Role::Registrar), Action::Read, &[CENTRE, OTHER_COMMUNE]).unwrap_err();
        assert_eq!(
            denied.to_string(),
            "read needs the role registrar in the unit in question or in one above it, and u-0000000000000064 is neither: \
             ask there"
        );
        assert!(!denied.to_string().contains(&OTHER_COMMUNE.to_string()));
    }
}
