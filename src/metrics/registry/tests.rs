use super::*;

/// docs/metrics.md has a row for each metric with its labels, and no other.
#[test]
fn the_documentation_has_every_metric() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md")).unwrap();
    let m = Metrics::new();
    m.set_servers(&["db1"]);
    m.server(ServerId(0)).statement(Class::Read, Target::Replica, Duration::from_micros(300));
    m.server(ServerId(0)).set_lag(Some(Duration::ZERO));
    m.pinned("transaction").inc();
    m.failovers("failover", "ok").inc();
    let text = m.text();
    let mut metrics: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    metrics.sort_unstable();
    let mut told: Vec<&str> =
        page.lines().filter_map(|l| l.strip_prefix("| `sluice_")).filter_map(|l| l.split('`').next()).collect();
    told.sort_unstable();
    assert_eq!(told, metrics.iter().map(|m| m.trim_start_matches("sluice_")).collect::<Vec<_>>());
    for name in metrics {
        let row = page.lines().find(|l| l.starts_with(&format!("| `{name}` |"))).unwrap();
        let sample = text.lines().find(|l| l.starts_with(&format!("{name}{{")) || l.starts_with(&format!("{name}_bucket{{")));
        let labels = sample.and_then(|l| l.split_once('{')).map_or("", |(_, rest)| rest.split('}').next().unwrap_or_default());
        for label in labels.split("\",").filter_map(|pair| pair.split('=').next()).filter(|l| !l.is_empty() && *l != "le") {
            assert!(row.contains(&format!("`{label}`")), "docs/metrics.md: {name} has the label {label}");
        }
    }
}

#[test]
fn every_name_of_the_contract_is_there() {
    let m = Metrics::new();
    m.set_servers(&["db1", "db2"]);
    m.server(ServerId(0)).statement(Class::Read, Target::Replica, Duration::from_micros(300));
    m.server(ServerId(1)).set_role(Role::Master);
    m.server(ServerId(1)).set_state(State::Quarantined);
    m.server(ServerId(0)).set_lag(Some(Duration::from_millis(1500)));
    m.server(ServerId(1)).set_lag(Some(Duration::ZERO));
    m.server(ServerId(1)).set_lag(None);
    m.pinned("transaction").inc();
    m.failovers("failover", "ok").inc();
    let text = m.text();
    for name in [
        "sluice_queries_total{class=\"read\",server=\"db1\",target=\"replica\"} 1",
        "sluice_query_duration_seconds_bucket{class=\"read\",server=\"db1\",le=\"0.0004\"} 1",
        "sluice_proxy_overhead_seconds_count 0",
        "sluice_clients{state=\"active\"} 0",
        "sluice_server_up{server=\"db1\"} 0",
        "sluice_server_role{role=\"master\",server=\"db2\"} 1",
        "sluice_server_state{server=\"db2\",state=\"quarantined\"} 1",
        "sluice_server_state{server=\"db2\",state=\"online\"} 0",
        "sluice_server_lag_seconds{server=\"db1\"} 1.5",
        "sluice_pool_connections{server=\"db1\",state=\"idle\"} 0",
        "sluice_pool_wait_seconds_count 0",
        "sluice_pinned_sessions{reason=\"transaction\"} 1",
        "sluice_cache_hits_total 0",
        "sluice_cache_misses_total 0",
        "sluice_cache_stores_total 0",
        "sluice_cache_evictions_total 0",
        "sluice_cache_invalidations_total 0",
        "sluice_cache_bytes 0",
        "sluice_cache_store_up 0",
        "sluice_cache_store_hits_total 0",
        "sluice_cache_store_misses_total 0",
        "sluice_cache_store_unfit_total 0",
        "sluice_cache_store_errors_total 0",
        "sluice_failovers_total{kind=\"failover\",result=\"ok\"} 1",
        "sluice_failover_duration_seconds_count 0",
        "sluice_held_statements 0",
        "sluice_errors_total{source=\"client\"} 0",
        "sluice_logins_total{result=\"ok\"} 0",
        "sluice_build_info{version=",
    ] {
        assert!(text.contains(name), "{name} is missing in\n{text}");
    }
}

#[test]
fn servers_come_and_go_and_counters_stay() {
    let m = Metrics::new();
    m.set_servers(&["db1", "db2"]);
    for _ in 0..7 {
        m.server(ServerId(1)).statement(Class::Write, Target::Master, Duration::ZERO);
    }
    m.set_servers(&["db2"]);
    assert_eq!(m.server(ServerId(0)).queries_total(), 7);
    assert_eq!(m.server(ServerId(9)).name(), "");
    assert!(!m.text().contains("db1"), "{}", m.text());
    m.no_server().statement(Class::Read, Target::Cache, Duration::ZERO);
    assert!(m.text().contains("sluice_queries_total{class=\"read\",server=\"\",target=\"cache\"} 1"));
}
