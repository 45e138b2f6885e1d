use proptest::prelude::*;

use super::*;

/// A file in which every rule can be broken by one line.
const FILE: &str = r#"name = "test"
about = "A test."
lasts = "10m"
[tree]
province = "10"
districts = ["082"]
communes = ["02683", "02686"]
nodes = { commune = 1 }
[knobs]
heartbeat = "500ms"
[[officers]]
at = "082"
every = "1s"
does = "mixed"
[[faults]]
at = "1m"
lasts = "30s"
what = "crash"
node = "10/leader"
"#;

/// `text` with its first line that begins with `start` replaced by `line`.
fn with_line(text: &str, start: &str, line: &str) -> String {
    let mut found = false;
    let lines = text.lines().map(|old| {
        if !found && old.starts_with(start) {
            found = true;
            line
        } else {
            old
        }
    });
    let changed = lines.map(|line| format!("{line}\n")).collect();
    assert!(found, "{start}");
    changed
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    let error = Scenario::parse(text).expect_err(expected);
    assert_eq!(error.to_string(), expected);
}

/// With these lines in the place of the fault's last two.
#[track_caller]
fn fault_refused(lines: &str, expected: &str) {
    let text = with_line(&with_line(FILE, "node = \"10", ""), "what", lines);
    refused(&text, expected);
}

/// The same for what happens in a moment.
#[track_caller]
fn moment_refused(lines: &str, expected: &str) {
    let file = with_line(FILE, "lasts = \"30s\"", "");
    refused(&with_line(&with_line(&file, "node = \"10", ""), "what", lines), expected);
}

#[test]
fn a_file_says_what_it_says_and_the_rest_is_as_usual() {
    let scenario = Scenario::parse(FILE).unwrap();
    assert_eq!(scenario.lasts, Duration::from_secs(600));
    assert_eq!(scenario.tree.nodes, NodesPerTier::default());
    assert_eq!((scenario.knobs, scenario.network), (Knobs::default(), Network::default()));
    assert_eq!(scenario.officers[0].does, Work::Mixed);
    let node = NodeRef { site: "10".to_owned(), which: Which::Leader };
    let (at, lasts) = (Duration::from_secs(60), Some(Duration::from_secs(30)));
    assert_eq!(scenario.faults, [Fault { at, lasts, what: What::Crash { node } }]);
}

#[test]
fn what_is_shipped_can_be_run_and_tells_its_name() {
    for (name, text) in SHIPPED {
        let scenario = Scenario::parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(scenario.name, name);
        assert!(scenario.about.len() > 200, "{name} says little of itself");
        assert_eq!(Scenario::parse(&scenario.to_toml()), Ok(scenario), "{name}");
    }
    let shipped = |name: &str| Scenario::parse(SHIPPED.iter().find(|(other, _)| *other == name).unwrap().1).unwrap();
    let typhoon = shipped("typhoon");
    let What::Dark { sites } = &typhoon.faults[0].what else { panic!("{:?}", typhoon.faults[0]) };
    assert_eq!((sites.len(), typhoon.faults[0].lasts), (15, Some(Duration::from_secs(72 * 3_600))));
    let restart = shipped("rolling_restart");
    assert_eq!(restart.faults.len(), restart.tree.nodes_in_all());
    assert_eq!(shipped("last_weeks_backup").may_lose(), BTreeSet::from(["02683".to_owned()]));
    assert!(typhoon.may_lose().is_empty());
}

#[test]
fn the_tree_knows_its_sites() {
    let tree = Scenario::parse(FILE).unwrap().tree;
    let sites: Vec<(String, Option<String>, u8, usize)> =
        tree.sites().into_iter().map(|site| (site.code, site.parent, site.nodes, site.shards.len())).collect();
    let site =
        |code: &str, parent: Option<&str>, nodes, shards| (code.to_owned(), parent.map(str::to_owned), nodes, shards);
    let expected = [
        site("00", None, 3, 2),
        site("10", Some("00"), 3, 2),
        site("082", Some("10"), 3, 2),
        site("02683", Some("082"), 1, 1),
        site("02686", Some("082"), 1, 1),
    ];
    assert_eq!(sites, expected);
    assert_eq!(tree.nodes_in_all(), 11);
    assert_eq!((tree.nodes_of("083"), tree.parent_of("10")), (0, Some("00".to_owned())));
}

#[test]
fn errors_of_shape_name_line_and_key() {
    refused(
        &with_line(FILE, "heartbeat", "hartbeat = \"1s\""),
        "`knobs.hartbeat` (line 10) is not a key: there is no \"hartbeat\" here: write one of heartbeat, election_min, \
         election_max, snapshot_every, keep_entries, segment_bytes, flush, link_backoff_min, link_backoff_max, level",
    );
    refused(
        &with_line(FILE, "every", "evry = \"1s\""),
        "`officers[0].evry` (line 13) is not a key: there is no \"evry\" here: write one of at, shards, every, starts, edits, \
         does, impatient",
    );
    refused(
        &with_line(FILE, "lasts", "lasts = 600"),
        "`lasts` (line 3) invalid type: integer `600`, expected a string: write how long it lasts, such as \"10m\" or \
         \"1h30m\", at most \"366d\"",
    );
    refused(
        &with_line(FILE, "does", "does = \"mixed\"\ndoes = \"cards\""),
        "`officers[0].does` (line 15) is there twice: write it once",
    );
    refused(
        &with_line(FILE, "nodes", "nodes = { commune = -1 }"),
        "`tree.nodes.commune` (line 8) invalid value: integer `-1`, expected u8: write a number of nodes from 1 to 7",
    );
    let error = Scenario::parse(&with_line(FILE, "at", "at = ")).unwrap_err();
    assert_eq!((error.key.as_str(), error.line), ("officers[0].at", Some(12)));
    assert!(error.reason.starts_with("is not TOML"), "{error}");
}

#[test]
fn what_is_missing_is_named_with_the_line_of_its_table() {
    refused(
        &with_line(FILE, "name", ""),
        "`name` is missing: write a name of lower case letters, digits and _, such as \"typhoon\"",
    );
    refused(
        &with_line(FILE, "province", ""),
        "`tree.province` (line 4) is missing: write the code of a province of 2024, such as \"10\"",
    );
    refused(
        &with_line(FILE, "every", ""),
        "`officers[0].every` (line 11) is missing: write a length from \"1ms\", such as \"30s\"",
    );
    fault_refused(
        "what = \"crash\"",
        "`faults[0].node` (line 15) is missing: write a node that is there, such as \"10/1\", \"10/leader\" or \
         \"10/follower\"",
    );
}

#[test]
fn times_are_lengths_within_the_scenario() {
    refused(
        &with_line(FILE, "lasts", "lasts = \"ten minutes\""),
        "`lasts` (line 3) is no length with \"ten minutes\": numbers with units out of d, h, m, s, ms, us, ns: write how long \
         it lasts, such as \"10m\" or \"1h30m\", at most \"366d\"",
    );
    refused(
        &with_line(FILE, "at = \"1m\"", "at = \"11m\""),
        "`faults[0].at` (line 16) is not within the scenario: write when it begins: a length below `lasts` of the scenario, \
         such as \"30s\"",
    );
    refused(
        &with_line(FILE, "lasts = \"30s\"", "lasts = \"10m\""),
        "`faults[0].lasts` (line 17) ends after the scenario: write a length, such as \"90s\", that ends within the scenario",
    );
    refused(
        &with_line(FILE, "heartbeat", "heartbeat = \"500us\""),
        "`knobs.heartbeat` (line 10) is not in whole milliseconds: write whole milliseconds from \"10ms\" to \"10s\"",
    );
    refused(
        &with_line(FILE, "heartbeat", "heartbeat = \"1s\""),
        "`knobs.election_min` (line 9) is too short: write whole milliseconds from 3 times knobs.heartbeat to \"1m\"",
    );
}

#[test]
fn units_are_real_and_in_the_tree() {
    refused(
        &with_line(FILE, "province", "province = \"082\""),
        "`tree.province` (line 5) is no province with \"082\": write the code of a province of 2024, such as \"10\"",
    );
    refused(
        &with_line(FILE, "communes", "communes = [\"02683\", \"02752\"]"),
        "`tree.communes[1]` (line 7) lies in 083, which is not in the tree: write codes of communes of these districts, such \
         as [\"02683\", \"02686\"]",
    );
    refused(
        &with_line(FILE, "at = \"082\"", "at = \"083\""),
        "`officers[0].at` (line 12) is no unit of the tree with \"083\": write the code of a unit of the tree, at whose site \
         he works",
    );
    refused(
        &with_line(FILE, "at = \"082\"", "at = \"02683\"\nshards = [\n  \"02683\",\n  \"02686\",\n]"),
        "`officers[0].shards[1]` (line 15) is not in 02683, so its site does not hold it, with \"02686\": write codes of \
         communes of the tree that lie in his unit, or leave it out for all of them",
    );
    fault_refused(
        "what = \"dark\"\nsites = [\"02683\", \"99999\"]",
        "`faults[0].sites[1]` (line 19) is no site of the tree with \"99999\": write codes of sites of the tree, such as \
         [\"02683\"], each once",
    );
}

#[test]
fn a_fault_has_the_keys_of_its_kind() {
    fault_refused(
        "what = \"crash\"\nnode = \"10/1\"\nsites = [\"10\"]",
        "`faults[0].sites` (line 20) has no meaning with what = \"crash\": write nothing there",
    );
    let error = Scenario::parse(&with_line(FILE, "what", "what = \"crsh\"")).unwrap_err();
    assert_eq!((error.key.as_str(), error.line), ("faults[0].what", Some(18)));
    assert!(error.to_string().contains("write one of \"dark\", \"cut\", \"cut_one_way\""), "{error}");
    let gone = with_line(FILE, "what", "what = \"gone\"");
    refused(&gone, "`faults[0].lasts` (line 17) has no meaning with \"gone\", which happens once: write nothing there");
}

#[test]
fn nodes_are_there() {
    let node = |node: &str, reason: &str| {
        let advice = "a node that is there, such as \"10/1\", \"10/leader\" or \"10/follower\"";
        fault_refused(
            &format!("what = \"crash\"\nnode = \"{node}\""),
            &format!("`faults[0].node` (line 19) {reason}: write {advice}"),
        );
    };
    node("10/4", "is no node of its site with \"10/4\"");
    node("02683/follower", "does not exist, since 02683 has one node");
    node("11/1", "is no site of the tree with \"11\"");
    for text in ["10", "10/0", "10/01", "10/boss", "10/"] {
        let reason = "it must be a code, a `/` and a number from 1, `leader` or `follower`";
        node(text, &format!("is wrong with {text:?}: {reason}"));
    }
    // One that joins has the next number, once it has joined.
    let joins = format!("{FILE}[[faults]]\nat = \"30s\"\nwhat = \"add_node\"\nsite = \"10\"\n");
    assert!(Scenario::parse(&with_line(&joins, "node = \"10", "node = \"10/4\"")).is_ok());
    let left = format!("{FILE}[[faults]]\nat = \"30s\"\nwhat = \"replace_node\"\nnode = \"10/2\"\n");
    refused(
        &with_line(&left, "node = \"10", "node = \"10/2\""),
        "`faults[0].node` (line 19) has left its site before, with \"10/2\": write a node that is there, such as \"10/1\", \
         \"10/leader\" or \"10/follower\"",
    );
    fault_refused(
        "what = \"cut\"\na = \"10\"\nb = \"10/1\"",
        "`faults[0].b` (line 20) is not apart from `a`: write a site of the tree such as \"10\", or a node such as \"10/1\", \
         apart from `a`",
    );
}

#[test]
fn a_majority_of_disks_is_lost_only_on_purpose() {
    let fault =
        |at: &str, what: &str, node: &str| format!("[[faults]]\nat = \"{at}\"\nwhat = \"{what}\"\nnode = \"{node}\"\n");
    let one = format!("{FILE}{}", fault("2m", "gone", "10/1"));
    assert!(Scenario::parse(&one).is_ok());
    let two = format!("{one}{}", fault("5m", "gone", "10/2"));
    refused(
        &two,
        "`faults[2].node` (line 27) takes a majority of the disks of 10 for good, which no promise covers: write \
         `beyond_promises = true` at the top, if that is meant",
    );
    let meant = Scenario::parse(&format!("beyond_promises = true\n{two}")).unwrap();
    assert_eq!(meant.may_lose(), BTreeSet::from(["10".to_owned()]));
    // A node that has a successor does not count.
    let replaced = format!("{two}{}", fault("3m", "replace_node", "10/1"));
    assert!(Scenario::parse(&replaced).is_ok());

    let lone = with_line(&with_line(FILE, "what", "what = \"lose_disk\""), "node = \"10", "node = \"02683/1\"");
    assert_eq!(Scenario::parse(&lone).unwrap_err().key, "faults[0].node");
    assert!(Scenario::parse(&format!("beyond_promises = true\n{lone}")).is_ok());
    refused(
        &with_line(FILE, "what", "what = \"lose_disk\""),
        "`faults[0].node` (line 19) is not at a site of one node: 10 has more: write a node of a site of one node, or \
         `what = \"replace_node\"`",
    );
}

/// Every kind of fault, each with its keys.
#[test]
fn every_kind_has_a_form() {
    let keys = |kind: &str| match kind {
        "dark" => "sites = [\"082\", \"02683\"]",
        "cut" => "a = \"10\"\nb = \"00\"",
        "cut_one_way" => "from = \"10/1\"\nto = \"10/2\"",
        "slow" => "a = \"10\"\nb = \"00\"\nbits_per_second = 64000\nlatency = \"300ms\"",
        "flap" => "a = \"10\"\nb = \"00\"\nevery = \"2s\"",
        "lossy" => "a = \"10\"\nb = \"00\"\nper_mille = 10",
        "crash_loop" => "node = \"10/1\"\ntimes = 3\nevery = \"2s\"",
        "rot" => "node = \"10/1\"\nstore = \"log\"\ntimes = 8",
        "slow_disk" => "node = \"10/1\"\nflush = \"2s\"",
        "lose_disk" => "node = \"02683/1\"",
        "restore" => "node = \"02683/1\"\nbackup_at = \"30s\"\ntwice = true",
        "clock" => "node = \"10/1\"\noffset = \"-365d\"",
        "drift" => "node = \"10/1\"\nppm = -500",
        "add_node" | "transfer_leader" | "snapshot" => "site = \"10\"",
        "raise_level" => "site = \"10\"\nlevel = 2",
        "add_site" => "site = \"02683\"",
        "rekey_site" => "site = \"082\"\nrevokes = true",
        "move_site" => "site = \"02683\"\nparent = \"10\"",
        "thief" => "site = \"10\"\ntheft = \"forks\"",
        _ => "node = \"10/1\"",
    };
    for kind in What::KINDS {
        let fault = format!("what = \"{kind}\"\n{}", keys(kind));
        let file = with_line(&with_line(FILE, "what", &fault), "node = \"10/leader", "");
        let file = format!("beyond_promises = true\n{file}");
        let lasting = Scenario::parse(&file);
        let scenario = lasting.or_else(|_| Scenario::parse(&with_line(&file, "lasts = \"30s\"", ""))).unwrap();
        assert_eq!(scenario.faults[0].what.kind(), kind);
        assert!(!scenario.faults[0].what.sites().is_empty(), "{kind}");
        assert_eq!(Scenario::parse(&scenario.to_toml()), Ok(scenario));
    }
}

#[test]
fn a_thief_speaks_to_somebody_and_leaves_a_life_to_a_site_that_needs_one() {
    fault_refused(
        "what = \"thief\"\nsite = \"00\"\ntheft = \"forges\"",
        "`faults[0].site` (line 19) has nobody above to speak to, with \"00\": write the code of a site of the tree, such as \"10\"",
    );
    let crowd = "what = \"thief\"\nsite = \"02683\"\ntheft = \"crowds\"";
    for other in
        ["what = \"restore\"\nnode = \"02683/1\"\nbackup_at = \"1m\"", "what = \"forget_vote\"\nnode = \"02683/1\""]
    {
        fault_refused(
            &format!("{crowd}\n[[faults]]\nat = \"2m\"\n{other}"),
            "`faults[0].theft` (line 20) leaves 02683 without a life that it needs elsewhere: write \"forges\", \"forks\" or \"crowds\"",
        );
    }
}

#[test]
fn sites_are_added_moved_and_given_keys_where_that_can_be() {
    let instead = "the code of a site of the tree, such as \"10\"";
    moment_refused(
        "what = \"add_site\"\nsite = \"082\"",
        &format!("`faults[0].site` (line 19) is no commune with \"082\": write {instead}"),
    );
    let added = "what = \"add_site\"\nsite = \"02683\"";
    for (other, reason) in [("02683", "is added twice: 02683"), ("02686", "leaves the tree without a commune at first")]
    {
        moment_refused(
            &format!("{added}\n[[faults]]\nat = \"2m\"\nwhat = \"add_site\"\nsite = \"{other}\""),
            &format!("`faults[0].site` (line 19) {reason}: write {instead}"),
        );
    }
    moment_refused(
        "what = \"move_site\"\nsite = \"082\"\nparent = \"02683\"",
        "`faults[0].parent` (line 20) is not above 082, with \"02683\": write the code of a site of a unit above that of `site`, \
         such as \"10\"",
    );
    let rekeyed = "what = \"rekey_site\"\nsite = \"02683\"\nrevokes = true";
    for other in ["what = \"gone\"\nnode = \"10/1\"", "what = \"thief\"\nsite = \"02683\"\ntheft = \"forks\""] {
        let file = with_line(FILE, "lasts = \"30s\"", "");
        let text = with_line(&with_line(&file, "node = \"10", ""), "what", rekeyed);
        let text = format!("{text}[[faults]]\nat = \"90s\"\n{other}");
        assert_eq!(Scenario::parse(&text).unwrap_err().key, "faults[0].revokes");
        assert!(Scenario::parse(&text.replace("revokes = true", "")).is_ok());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn what_is_written_is_read_again(seed: u64, words in "[a-z\"\\\\\n\r\t#=ếạ\u{7f}]{1,40}", nanos in 1..10_u64.pow(15)) {
        let mut scenario = crate::random::scenario(seed);
        scenario.about = format!("{words}.");
        scenario.settles_within = Duration::from_nanos(nanos);
        let file = scenario.to_toml();
        let read = Scenario::parse(&file);
        prop_assert_eq!(read, Ok(scenario), "{}", file);
    }

    #[test]
    fn no_text_is_too_much_for_the_parser(text in "[ -~\n]{0,200}", line in 0..20_usize) {
        // Alone, and in the place of a line of a good file.
        let _ = Scenario::parse(&text);
        let lines: Vec<&str> = FILE.lines().enumerate().map(|(i, old)| if i == line { text.as_str() } else { old }).collect();
        let _ = Scenario::parse(&lines.join("\n"));
    }
}
