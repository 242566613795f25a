//! What the README says of grants is what the sandbox gives.

use integration::accounts::monitor_grants;
use integration::flavour::Flavour;

#[test]
fn the_grants_of_the_readme_are_those_of_the_harness() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let uncommented: String = readme.lines().map(|line| line.split("-- ").next().unwrap_or(line)).collect::<Vec<_>>().join("\n");
    let readme = squeeze(&uncommented);
    for flavour in [Flavour::MariaDb, Flavour::MySql] {
        for (grant, _) in monitor_grants(flavour) {
            assert!(readme.contains(&format!("{grant};")), "{flavour}: the README lacks {grant}");
        }
    }
}
