use std::path::{Path, PathBuf};

use model::Labels;

use super::*;

fn gathered() -> Vec<String> {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let roots = Roots {
        procfs: testdata.join("proc"),
        sysfs: testdata.join("sys"),
        rootfs: PathBuf::from("/"),
        textfile_dir: Some(testdata.join("textfile")),
    };
    let mut out = Gathered::new(1, Labels::from_pairs([("job", "node"), ("instance", "n")]));
    collect(&roots, &mut out);
    out.lines()
}

/// `lines` are the metric lines that begin with `prefix`, all of them.
fn check(prefix: &str, lines: &[&str]) {
    let got: Vec<String> = gathered().into_iter().filter(|line| line.starts_with(prefix)).collect();
    assert_eq!(got, lines);
}

#[test]
fn a_recorded_tree_gives_node_exporters_metrics() {
    check(
        "node_cpu_guest",
        &[
            r#"node_cpu_guest_seconds_total{cpu="0", mode="nice"} 0"#,
            r#"node_cpu_guest_seconds_total{cpu="0", mode="user"} 0"#,
            r#"node_cpu_guest_seconds_total{cpu="1", mode="nice"} 0"#,
            r#"node_cpu_guest_seconds_total{cpu="1", mode="user"} 0.04"#,
        ],
    );
    check(
        r#"node_cpu_seconds_total{cpu="0", mode="i"#,
        &[
            r#"node_cpu_seconds_total{cpu="0", mode="idle"} 20"#,
            r#"node_cpu_seconds_total{cpu="0", mode="iowait"} 0.05"#,
            r#"node_cpu_seconds_total{cpu="0", mode="irq"} 0"#,
        ],
    );
    check("node_load", &["node_load15{} 0.1", "node_load1{} 0.5", "node_load5{} 0.25"]);
    check(
        "node_memory",
        &[
            "node_memory_Active_anon_bytes{} 10240",
            "node_memory_HugePages_Total{} 3",
            "node_memory_MemAvailable_bytes{} 614400",
            "node_memory_MemTotal_bytes{} 1024000",
        ],
    );
    check(
        "node_vmstat",
        &[
            "node_vmstat_oom_kill{} 1",
            "node_vmstat_pgfault{} 100",
            "node_vmstat_pgmajfault{} 7",
            "node_vmstat_pgpgin{} 11",
        ],
    );
    check(
        "node_disk_read",
        &[
            r#"node_disk_read_bytes_total{device="vda"} 10240"#,
            r#"node_disk_read_time_seconds_total{device="vda"} 0.3"#,
            r#"node_disk_reads_completed_total{device="vda"} 10"#,
            r#"node_disk_reads_merged_total{device="vda"} 1"#,
        ],
    );
    check(
        "node_disk_io",
        &[
            r#"node_disk_io_now{device="vda"} 1"#,
            r#"node_disk_io_time_seconds_total{device="vda"} 0.5"#,
            r#"node_disk_io_time_weighted_seconds_total{device="vda"} 0.7"#,
        ],
    );
}

#[test]
fn the_network_and_the_kernel_too() {
    check("node_network_receive_e", &[r#"node_network_receive_errs_total{device="eth0"} 1"#]);
    check("node_network_transmit_d", &[r#"node_network_transmit_drop_total{device="eth0"} 5"#]);
    check("node_network_up", &[r#"node_network_up{device="eth0"} 1"#]);
    check("node_network_speed", &[r#"node_network_speed_bytes{device="eth0"} 125000000"#]);
    check(
        "node_netstat_Tcp",
        &[
            "node_netstat_TcpExt_SyncookiesSent{} 1",
            "node_netstat_TcpExt_TCPSynRetrans{} 8",
            "node_netstat_Tcp_OutSegs{} 500",
            "node_netstat_Tcp_RetransSegs{} 6",
        ],
    );
    check("node_nf_conntrack_entries", &["node_nf_conntrack_entries_limit{} 262144", "node_nf_conntrack_entries{} 12"]);
    let mem_bytes = format!("node_sockstat_TCP_mem_bytes{{}} {}", 2.0 * network::page_bytes());
    check("node_sockstat_TCP_mem", &[&mem_bytes, "node_sockstat_TCP_mem{} 2"]);
    assert!(network::page_bytes() >= 4096.0 && (network::page_bytes() as u64).is_power_of_two());
    check("node_filefd", &["node_filefd_allocated{} 1024", "node_filefd_maximum{} 9000"]);
    check("node_pressure_cpu", &["node_pressure_cpu_waiting_seconds_total{} 2.5"]);
    check(
        "node_pressure_io",
        &["node_pressure_io_stalled_seconds_total{} 0.5", "node_pressure_io_waiting_seconds_total{} 2.5"],
    );
    check("node_procs", &["node_procs_blocked{} 1", "node_procs_running{} 2"]);
    check("node_boot", &["node_boot_time_seconds{} 1795150000"]);
    check(
        r#"node_filesystem_device_error"#,
        &[
            r#"node_filesystem_device_error{device="/dev/vda", fstype="ext4", mountpoint="/"} 0"#,
            r#"node_filesystem_device_error{device="tmpfs", fstype="tmpfs", mountpoint="/gone place"} 1"#,
        ],
    );
    // What other collectors read is recorded too.
    let failed =
        gathered().into_iter().filter(|line| line.starts_with("node_scrape_collector_success") && line.ends_with(" 0"));
    assert_eq!(failed.collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn hardware_monitors() {
    check(
        "node_hwmon_",
        &[
            r#"node_hwmon_beep_enabled{chip="nct6775", sensor="beep_enable0"} 1"#,
            r#"node_hwmon_chip_names{chip="nct6775", chip_name="nct6775"} 1"#,
            r#"node_hwmon_chip_names{chip="platform_coretemp_0", chip_name="coretemp"} 1"#,
            r#"node_hwmon_curr_amps{chip="nct6775", sensor="curr1"} 0.25"#,
            r#"node_hwmon_energy_joule_total{chip="nct6775", sensor="energy1"} 7.5"#,
            r#"node_hwmon_fan_beep_enabled{chip="nct6775", sensor="fan2"} 0"#,
            r#"node_hwmon_fan_pulses{chip="nct6775", sensor="fan2"} 2"#,
            r#"node_hwmon_fan_rpm{chip="nct6775", sensor="fan2"} 1250"#,
            r#"node_hwmon_freq_freq_mhz{chip="nct6775", sensor="sclk"} 1500"#,
            r#"node_hwmon_humidity{chip="nct6775", sensor="humidity1"} 0.042"#,
            r#"node_hwmon_in_alarm{chip="nct6775", sensor="in0"} 1"#,
            r#"node_hwmon_in_volts{chip="nct6775", sensor="in0"} 1.48"#,
            r#"node_hwmon_power_average_interval_seconds{chip="nct6775", sensor="power1"} 1"#,
            r#"node_hwmon_power_average_watt{chip="nct6775", sensor="power1"} 12.5"#,
            r#"node_hwmon_pwm_enable{chip="nct6775", sensor="pwm2"} 5"#,
            r#"node_hwmon_pwm{chip="nct6775", sensor="pwm2"} 127"#,
            r#"node_hwmon_sensor_label{chip="nct6775", label="sclk", sensor="freq1"} 1"#,
            r#"node_hwmon_sensor_label{chip="platform_coretemp_0", label="Package id 0", sensor="temp1"} 1"#,
            r#"node_hwmon_temp_celsius{chip="platform_coretemp_0", sensor="temp1"} 41.5"#,
            r#"node_hwmon_temp_crit_alarm_celsius{chip="platform_coretemp_0", sensor="temp1"} 0"#,
            r#"node_hwmon_temp_crit_celsius{chip="platform_coretemp_0", sensor="temp1"} 100"#,
            r#"node_hwmon_temp_type{chip="platform_coretemp_0", sensor="temp1"} 1"#,
            r#"node_hwmon_update_interval_seconds{chip="nct6775", sensor="update_interval0"} 1.5"#,
        ],
    );
}

#[test]
fn what_else_node_exporter_tells_by_default() {
    check("node_arp", &[r#"node_arp_entries{device="eth0"} 2"#]);
    check(
        "node_softnet",
        &[
            r#"node_softnet_dropped_total{cpu="3"} 1"#,
            r#"node_softnet_processed_total{cpu="3"} 10"#,
            r#"node_softnet_times_squeezed_total{cpu="3"} 2"#,
        ],
    );
    check("node_netstat_Ip6", &["node_netstat_Ip6_InOctets{} 21932"]);
    check("node_netstat_Udp6", &["node_netstat_Udp6_NoPorts{} 4"]);
    check("node_sockstat_FRAG6", &["node_sockstat_FRAG6_inuse{} 0", "node_sockstat_FRAG6_memory{} 7"]);
    check("node_udp", &[r#"node_udp_queues{ip="v4", queue="rx"} 32"#, r#"node_udp_queues{ip="v4", queue="tx"} 16"#]);
    check("node_nf_conntrack_stat_in", &["node_nf_conntrack_stat_insert{} 2", "node_nf_conntrack_stat_invalid{} 10"]);
    check(
        "node_schedstat",
        &[
            r#"node_schedstat_running_seconds_total{cpu="0"} 2"#,
            r#"node_schedstat_timeslices_total{cpu="0"} 9"#,
            r#"node_schedstat_waiting_seconds_total{cpu="0"} 0.5"#,
        ],
    );
    check("node_md_disks_r", &[r#"node_md_disks_required{device="md0"} 2"#]);
    check("node_bonding", &[r#"node_bonding_active{master="bond0"} 1"#, r#"node_bonding_slaves{master="bond0"} 2"#]);
    check("node_entropy", &["node_entropy_available_bits{} 256", "node_entropy_pool_size_bits{} 4096"]);
    check("node_time_clocksource_c", &[r#"node_time_clocksource_current_info{clocksource="tsc", device="0"} 1"#]);
    check("node_thermal", &[r#"node_thermal_zone_temp{type="cpu", zone="0"} 42.5"#]);
    check("node_nvme", &[r#"node_nvme_info{device="nvme0", model="M 1", state="live"} 1"#]);
    check("node_dmi", &[r#"node_dmi_info{system_vendor="ACME"} 1"#]);
    check("node_network_flags", &[r#"node_network_flags{device="eth0"} 4099"#]);
    check("backup", &[r#"backup{job_name="x"} 7"#]);
    check("node_textfile_scrape", &["node_textfile_scrape_error{} 1"]);
    check("other", &[]);
}
