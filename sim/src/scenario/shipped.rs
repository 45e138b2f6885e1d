//! The scenarios that come with the simulator.

/// Name and text of each. The files are in `sim/scenarios`.
pub const SHIPPED: [(&str, &str); 24] = [
    ("peace", include_str!("../../scenarios/peace.toml")),
    ("typhoon", include_str!("../../scenarios/typhoon.toml")),
    ("one_way_fibre", include_str!("../../scenarios/one_way_fibre.toml")),
    ("rolling_restart", include_str!("../../scenarios/rolling_restart.toml")),
    ("last_weeks_backup", include_str!("../../scenarios/last_weeks_backup.toml")),
    ("card_campaign", include_str!("../../scenarios/card_campaign.toml")),
    ("clock_a_year_off", include_str!("../../scenarios/clock_a_year_off.toml")),
    ("follower_left_behind", include_str!("../../scenarios/follower_left_behind.toml")),
    ("crowded_counter", include_str!("../../scenarios/crowded_counter.toml")),
    ("isolated_leader", include_str!("../../scenarios/isolated_leader.toml")),
    ("back_behind_its_site", include_str!("../../scenarios/back_behind_its_site.toml")),
    ("session_over_a_restore", include_str!("../../scenarios/session_over_a_restore.toml")),
    ("asked_again_after_a_restore", include_str!("../../scenarios/asked_again_after_a_restore.toml")),
    ("rotten_snapshots", include_str!("../../scenarios/rotten_snapshots.toml")),
    ("rotten_beyond_itself", include_str!("../../scenarios/rotten_beyond_itself.toml")),
    ("broken_while_joining", include_str!("../../scenarios/broken_while_joining.toml")),
    ("first_snapshot", include_str!("../../scenarios/first_snapshot.toml")),
    ("rotten_log", include_str!("../../scenarios/rotten_log.toml")),
    ("sites_come_and_move", include_str!("../../scenarios/sites_come_and_move.toml")),
    ("revoked_key", include_str!("../../scenarios/revoked_key.toml")),
    ("crowded_out", include_str!("../../scenarios/crowded_out.toml")),
    ("stolen_key", include_str!("../../scenarios/stolen_key.toml")),
    ("hostile_callers", include_str!("../../scenarios/hostile_callers.toml")),
    ("leader_restarts_before_its_flush", include_str!("../../scenarios/leader_restarts_before_its_flush.toml")),
];
