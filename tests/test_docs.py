"""The pages for those who move here: they name keys that exist, values that are allowed, and nothing as done that is not."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from health.probes import CLASSES
from health.spec import PROBE_TYPES
from proxy.balance.names import canonical
from proxy.cli import main
from proxy.config import diagnose, unsupported
from proxy.config.model import NotifySettings, VrrpSettings
from proxy.config.settings import (
    ControlSettings,
    DnsSettings,
    Eject,
    LogSettings,
    NodeSettings,
    PairSettings,
    Persistence,
    Queue,
    TcpSettings,
    UdpSettings,
    WebSettings,
)
from proxy.config.tables import BackendTable, DefaultsTable, FileTable, ServiceTable

DOCS = Path(__file__).parents[1] / "docs"
CHECKS, BALANCERS = "coming-from-health-checks.md", "coming-from-balancers.md"
KEEPALIVED, DNSDIST = "coming-from-keepalived.md", "coming-from-dnsdist.md"
PAGES = (CHECKS, BALANCERS, KEEPALIVED, DNSDIST)
SERVICE_KEYS = (ServiceTable, DefaultsTable, BackendTable)
TOP = {"node": NodeSettings, "control": ControlSettings, "pair": PairSettings, "web": WebSettings, "log": LogSettings}
ROUTERS = (VrrpSettings, NotifySettings)
SPAN = re.compile(r"`([^`]+)`")

OPTIONS = {
    (CHECKS, "keepalived"): (
        "connect_ip connect_port bindto bind_if bind_port fwmark connect_timeout delay_loop retry delay_before_retry warmup "
        "alpha omega log_all_failures url path digest status_code virtualhost regex regex_no_match regex_options regex_stack "
        "regex_min_offset regex_max_offset http_protocol fast_recovery enable_sni helo_name name type misc_path misc_timeout "
        "misc_dynamic user payload require_reply min_reply_length max_reply_length track_file dynamic weight quorum hysteresis "
        "quorum_up quorum_down notify_up notify_down sorry_server sorry_server_inhibit inhibit_on_failure smtp_alert "
        "uthreshold lthreshold ha_suspend TCP_CHECK HTTP_GET SSL_GET SMTP_CHECK DNS_CHECK MISC_CHECK PING_CHECK UDP_CHECK "
        "BFD_CHECK FILE_CHECK"
    ),
    (CHECKS, "HAProxy"): (
        "check no-check inter fastinter downinter rise fall port addr agent-check agent-addr agent-port agent-send agent-inter "
        "check-ssl check-sni check-alpn check-proto check-send-proxy check-via-socks4 spread-checks max-spread-checks observe "
        "on-error error-limit on-marked-down on-marked-up slowstart track init-addr httpchk disable-on-404 send-state send "
        "expect connect send-binary set-var comment min-recv smtpchk mysql-check pgsql-check ldap-check redis-check "
        "ssl-hello-chk spop-check external-check log-health-checks"
    ),
    (CHECKS, "ProxySQL"): (
        "enabled history connect_interval connect_timeout ping_interval ping_max_failures ping_timeout "
        "aws_rds_topology_discovery_interval read_only_interval read_only_timeout read_only_max_timeout_count "
        "replication_lag_group_by_host replication_lag_interval replication_lag_timeout replication_lag_count "
        "groupreplication_healthcheck_interval groupreplication_healthcheck_timeout "
        "groupreplication_healthcheck_max_timeout_count groupreplication_max_transactions_behind_count "
        "groupreplication_max_transactions_behind_for_read_only galera_healthcheck_interval galera_healthcheck_timeout "
        "galera_healthcheck_max_timeout_count username password replication_lag_use_percona_heartbeat query_interval "
        "query_timeout slave_lag_when_null threads_min threads_max threads_queue_maxsize local_dns_cache_ttl "
        "local_dns_cache_refresh_interval local_dns_resolver_queue_maxsize wait_timeout writer_is_also_reader "
        "max_replication_lag max_latency_ms use_ssl"
    ),
    (BALANCERS, "ipvsadm"): (
        "rr wrr lc wlc lblc lblcr dh sh sed nq fo ovf mh tcp-service udp-service sctp-service fwmark-service scheduler persistent "
        "netmask pe sched-flags sh-port sh-fallback mh-port mh-fallback weight u-threshold l-threshold gatewaying ipip "
        "masquerading tun-type timeout one-packet ops start-daemon connection stats rate zero save restore set"
    ),
    (BALANCERS, "HAProxy"): (
        "roundrobin static-rr leastconn first source hash random rdp-cookie uri url_param hdr hash-type hash-balance-factor "
        "stick-table stick weight backup allbackups maxconn minconn maxqueue fullconn queue slowstart disabled source usesrc "
        "interface send-proxy send-proxy-v2 send-proxy-v2-ssl proxy-v2-options accept-proxy redispatch retries retry-on "
        "on-marked-down on-marked-up observe pool-max-conn connect client server client-fin server-fin tunnel check tcp-ut "
        "backlog defer-accept tfo nice id cookie redir namespace resolvers track agent-check log tcplog dontlognull "
        "dontlog-normal log-separate-errors httplog rate-limit tcp-request clitcpka srvtcpka ssl mss shards maxconnrate"
    ),
    (BALANCERS, "dnsdist"): (
        "leastOutstanding firstAvailable wrandom whashed chashed roundrobin weight order qps sockets source useProxyProtocol "
        "useClientSubnet setECSSourcePrefixV4 setECSSourcePrefixV6 setECSOverride retries tcpConnectTimeout tcpRecvTimeout "
        "tcpSendTimeout tcpFastOpen maxInFlight disableZeroScope pool setServerPolicy setUDPTimeout setTCPRecvTimeout "
        "setMaxTCPClientThreads setMaxTCPConnectionsPerClient setMaxTCPQueriesPerConnection setMaxUDPOutstanding setACL addACL "
        "setProxyProtocolACL MaxQPSIPRule DropAction TCAction addLocal reusePort setServFailWhenNoServer "
        "setRoundRobinFailOnNoServer setWeightedBalancingFactor setConsistentHashingBalancingFactor newPacketCache setUp "
        "setDown setAuto dynBlockRulesGroup LogAction showServers"
    ),
    (KEEPALIVED, "vrrp_instance"): (
        "state interface virtual_router_id priority nopreempt preempt preempt_delay advert_int version native_ipv6 virtual_ipaddress "
        "virtual_ipaddress_excluded virtual_routes virtual_rules promote_secondaries track_interface track_script track_process "
        "track_file track_bfd dont_track_primary track_src_ip unicast_src_ip unicast_peer unicast_fault_no_peer check_unicast_src "
        "unicast_ttl old_unicast_checksum mcast_src_ip mcast_dst_ip authentication auth_type auth_pass use_vmac use_vmac_addr "
        "vmac_xmit_base use_ipvlan vrf garp_master_delay garp_master_repeat garp_master_refresh garp_master_refresh_repeat "
        "garp_lower_prio_delay garp_lower_prio_repeat garp_interval gna_interval garp_group lower_prio_no_advert "
        "higher_prio_send_advert strict_mode down_timer_adverts skip_check_adv_addr accept no_accept notify notify_master notify_backup "
        "notify_fault notify_stop notify_deleted notify_master_rx_lower_pri notify_priority_changes smtp_alert "
        "lvs_sync_daemon_interface kernel_rx_buf_size debug dev weight reverse"
    ),
    (
        KEEPALIVED,
        "vrrp_sync_group",
    ): "group track_interface track_script global_tracking sync_group_tracking_weight notify notify_master",
    (KEEPALIVED, "vrrp_script"): "script interval timeout rise fall weight init_fail user",
    (KEEPALIVED, "global_defs"): (
        "router_id vrrp_garp_master_delay vrrp_garp_master_repeat vrrp_garp_master_refresh vrrp_startup_delay default_interface "
        "lvs_timeouts lvs_flush notify_fifo vrrp_notify_fifo notify_fifo_script lvs_notify_fifo script_user enable_script_security "
        "notification_email notification_email_from smtp_server smtp_connect_timeout vrrp_iptables static_ipaddress static_routes "
        "static_rules net_namespace instance linkbeat_use_polling include"
    ),
    (KEEPALIVED, "virtual_server"): (
        "virtual_server virtual_server_group protocol lb_algo lvs_sched lb_kind lvs_method persistence_timeout persistence_granularity "
        "persistence_engine ops quorum hysteresis alpha omega quorum_up quorum_down notify_up notify_down real_server weight uthreshold "
        "lthreshold sorry_server sorry_server_inhibit inhibit_on_failure ha_suspend ip_family snmp_name sh-port mh-port sh-fallback"
    ),
    (
        DNSDIST,
        "Listeners",
    ): "setLocal addLocal doTCP reusePort tcpListenQueueSize interface cpus addTLSLocal addDOHLocal setACL addACL",
    (DNSDIST, "Servers"): (
        "newServer address name weight order pool qps useClientSubnet useProxyProtocol source sockets reconnectOnUp tcpConnectTimeout "
        "tcpSendTimeout tcpRecvTimeout retries tcpOnly tcpFastOpen maxInFlight tls dohPath disableZeroScope setDown setUp setAuto"
    ),
    (DNSDIST, "Health checks"): (
        "checkName checkType checkClass checkFunction checkTimeout setCD maxCheckFailures rise checkInterval mustResolve checkTCP "
        "healthCheckMode"
    ),
    (DNSDIST, "Policies"): (
        "setServerPolicy setPoolServerPolicy leastOutstanding firstAvailable roundrobin wrandom orderedWrandUntag whashed chashed "
        "setServerPolicyLua setServFailWhenNoServer setUDPTimeout setTCPRecvTimeout setMaxTCPConnectionsPerClient MaxQPSIPRule "
        "NetmaskGroupRule NotRule AllRule DSTPortRule PoolAction newPacketCache setECSOverride includeDirectory"
    ),
    (BALANCERS, "nginx"): (
        "hash consistent ip_hash least_conn least_time random zone weight max_conns max_fails fail_timeout backup down slow_start "
        "resolve service drain upstream proxy_pass proxy_connect_timeout proxy_timeout proxy_next_upstream "
        "proxy_next_upstream_tries proxy_next_upstream_timeout proxy_bind transparent proxy_protocol proxy_responses "
        "proxy_requests proxy_upload_rate proxy_download_rate proxy_buffer_size proxy_half_close proxy_socket_keepalive "
        "proxy_session_drop proxy_ssl listen reuseport backlog so_keepalive set_real_ip_from limit_conn allow deny access_log "
        "preread_timeout ssl_preread health_check"
    ),
}
"""What the documentation of each lists as options of its health checks, and of servers and balancing."""


class Row(NamedTuple):
    """One line of a table: what another program calls it, what it is here, and what there is to say."""

    theirs: str
    ours: str
    words: str


def text(page: str) -> str:
    """Return the page without its examples."""
    return re.sub(r"```toml\n.*?```\n", "", (DOCS / page).read_text(), flags=re.DOTALL)


def examples(page: str) -> list[str]:
    return re.findall(r"```toml\n(.*?)```\n", (DOCS / page).read_text(), re.DOTALL)


def rows(page: str, section: str) -> list[Row]:
    """Return the rows of the table below a heading that begins with `section`."""
    body = re.search(rf"^## {section}.*?\n(.*?)(?=^## |\Z)", text(page), re.DOTALL | re.MULTILINE)
    lines = [line for line in body[1].splitlines() if line.startswith("|")] if body else []
    return [Row(*(cell.strip() for cell in line.strip("|").split("|"))) for line in lines[2:]]


def all_rows(page: str) -> list[Row]:
    return [row for of, section in OPTIONS if of == page for row in rows(page, section)]


def fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def found(path: str) -> Iterator[FieldInfo]:
    """Yield every field of the models that `path` ("fall", "eject.errors", "node.user") may mean."""
    first, _, rest = path.partition(".")
    if first in TOP and rest:
        yield from (field for key, field in fields(TOP[first]).items() if key == rest)
        return
    for model in (*PROBE_TYPES.values(), *SERVICE_KEYS, *ROUTERS, FileTable):
        field = fields(model).get(first)
        if field is None:
            continue
        if not rest:
            yield field
            continue
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from (inner for key, inner in fields(kind).items() if key == rest)


def key(span: str) -> str:
    return span.partition("=")[0].strip()


def allowed(field: FieldInfo, value: Any) -> bool:
    kind: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


def wrong(span: str) -> str:
    """Say what is wrong with what the page names in its code type as ours, "" if nothing."""
    if section := re.fullmatch(r"\[([a-z-]+)(\.NAME)?\]", span):
        return "" if section[1] in fields(FileTable) else "no such section"
    if command := re.fullmatch(r"steelyard ([a-z]+)( --live| SERVICE BACKEND)?", span):
        return "" if command[1] in main.list_commands(None) else "no such command"
    known = [*found(key(span))]
    if key(span) == "use":
        return ""  # it is taken out before the models see the probe
    if not known:
        return "no such key"
    if "=" not in span:
        return ""
    value: Any = tomllib.loads(f"key = {span.partition('=')[2]}")["key"]
    return "" if any(allowed(field, value) for field in known) else "not a value of that key"


@pytest.mark.parametrize("page", PAGES)
def test_every_key_of_ours_exists(page):
    """Every key, value, section and command that the page names as ours is one, in the models that check the file."""
    prose = "\n".join(line for line in text(page).splitlines() if not line.startswith("|"))
    cells = "\n".join(f"{row.ours} {row.words}" for row in all_rows(page))
    spans = SPAN.findall(prose) + SPAN.findall(cells)
    assert len(spans) > 60
    assert {span: why for span in spans if (why := wrong(span))} == {}


@pytest.mark.parametrize("row", [row for page in PAGES for row in all_rows(page)], ids=lambda row: row.theirs[:40])
def test_each_row_says_whether_it_is_there(row):
    """A row names our keys, or says no or always."""
    if row.theirs.startswith("**") and not row.ours:
        return  # a heading
    assert re.fullmatch(r"no|always|`[^`]+`(, `[^`]+`)*", row.ours), row.ours


@pytest.mark.parametrize("page", PAGES)
def test_probe_types_and_schedulers_that_are_named_are_made(page):
    """Every type of probe that the page names can be made by this version, and every scheduler runs."""
    assert set(re.findall(r'`type = "([a-z0-9]+)"`', text(page))) <= set(CLASSES)
    for name in re.findall(r'scheduler = "([a-z-]+)"', text(page)):
        assert canonical(name)


@pytest.mark.parametrize(
    ("page", "number"),
    [(page, number) for page, count in zip(PAGES, (3, 4, 3, 1), strict=True) for number in range(count)],
)
def test_examples_run(page, number, tmp_path):
    """Each example is a whole file without errors, and `steelyard run` refuses none of its keys."""
    path = tmp_path / "steelyard.toml"
    text = examples(page)[number]
    path.write_text(
        text if "nodes =" in text else f'nodes = ["lb1"]\n{text}'
    )  # another host's: its secrets are not here
    config, diagnostics = diagnose(path)
    assert config is not None, [str(item) for item in diagnostics]
    assert unsupported(config) == []


@pytest.mark.parametrize(("table", "options"), OPTIONS.items())
def test_no_option_of_theirs_is_left_out(table, options):
    """Each table has a row for every option of the program that it is about."""
    words = set(re.findall(r"\w[\w-]*", " ".join(row.theirs for row in rows(*table))))
    assert set(options.split()) - words == set()


README = re.findall(r"```toml\n(.*?)```", (DOCS.parent / "README.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(len(README)))
def test_the_readme_is_an_example_to_follow(number, tmp_path):
    """Each example of the README is a whole file that `check` has nothing to say of and that `run` takes."""
    path = tmp_path / "steelyard.toml"
    path.write_text(README[number])
    config, found = diagnose(path)
    assert found == []
    assert config is not None
    assert unsupported(config) == []


REFERENCE = DOCS / "reference" / "configuration.md"
TABLES = (
    ServiceTable, BackendTable, Persistence, Queue, Eject, TcpSettings, UdpSettings, DnsSettings, NodeSettings, LogSettings,
    ControlSettings, PairSettings, WebSettings,
)  # fmt: skip


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_every_key_has_a_row_and_an_example(table):
    """Each key of these tables has a row in the reference, and stands in an example that a test loads."""
    pages = [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]
    shown = "".join("".join(re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)) for page in pages)
    shown += "".join(path.read_text() for path in (DOCS.parent / "examples").glob("*.toml"))
    keys = fields(table)
    assert {key for key in keys if f"`{key}`" not in REFERENCE.read_text()} == set()
    assert {key for key in keys if not re.search(rf"(?<![\w-]){key} *=|\.{key}\]", shown)} == set()
