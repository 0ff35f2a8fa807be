"""The pages for those who move here: they name keys that exist, values that are allowed, and nothing as done that is not."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from health.probes import CLASSES
from health.spec import PROBE_TYPES
from proxy.balance.names import canonical
from proxy.cli import main
from proxy.config import diagnose, unsupported
from proxy.config.model import NotifySettings, VrrpSettings
from proxy.config.settings import ControlSettings, LogSettings, NodeSettings, WebSettings
from proxy.config.support import BACKEND_LATER, SECTIONS_LATER, SERVICE_LATER
from proxy.config.tables import BackendTable, DefaultsTable, FileTable, ServiceTable

PAGE = Path(__file__).parents[1] / "docs" / "coming-from-health-checks.md"
SERVICE_KEYS = (ServiceTable, DefaultsTable, BackendTable)
TOP = {"node": NodeSettings, "control": ControlSettings, "web": WebSettings, "log": LogSettings}
ROUTERS = (VrrpSettings, NotifySettings)
SPAN = re.compile(r"`([^`]+)`")
LATER = {*SERVICE_LATER, *BACKEND_LATER}

OPTIONS = {
    "keepalived": (
        "connect_ip connect_port bindto bind_if bind_port fwmark connect_timeout delay_loop retry delay_before_retry warmup "
        "alpha omega log_all_failures url path digest status_code virtualhost regex regex_no_match regex_options regex_stack "
        "regex_min_offset regex_max_offset http_protocol fast_recovery enable_sni helo_name name type misc_path misc_timeout "
        "misc_dynamic user payload require_reply min_reply_length max_reply_length track_file dynamic weight quorum hysteresis "
        "quorum_up quorum_down notify_up notify_down sorry_server sorry_server_inhibit inhibit_on_failure smtp_alert "
        "uthreshold lthreshold ha_suspend TCP_CHECK HTTP_GET SSL_GET SMTP_CHECK DNS_CHECK MISC_CHECK PING_CHECK UDP_CHECK "
        "BFD_CHECK FILE_CHECK"
    ),
    "HAProxy": (
        "check no-check inter fastinter downinter rise fall port addr agent-check agent-addr agent-port agent-send agent-inter "
        "check-ssl check-sni check-alpn check-proto check-send-proxy check-via-socks4 spread-checks max-spread-checks observe "
        "on-error error-limit on-marked-down on-marked-up slowstart track init-addr httpchk disable-on-404 send-state send "
        "expect connect send-binary set-var comment min-recv smtpchk mysql-check pgsql-check ldap-check redis-check "
        "ssl-hello-chk spop-check external-check log-health-checks"
    ),
    "ProxySQL": (
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
}
"""What the documentation of each lists as options of its health checks."""


class Row(NamedTuple):
    """One line of a table: what another program calls it, what it is here, and what there is to say."""

    theirs: str
    ours: str
    words: str


def text() -> str:
    """Return the page without its examples."""
    return re.sub(r"```toml\n.*?```\n", "", PAGE.read_text(), flags=re.DOTALL)


def examples() -> list[str]:
    return re.findall(r"```toml\n(.*?)```\n", PAGE.read_text(), re.DOTALL)


def rows(section: str) -> list[Row]:
    """Return the rows of the table below a heading that begins with `section`."""
    body = re.search(rf"^## {section}.*?\n(.*?)(?=^## |\Z)", text(), re.DOTALL | re.MULTILINE)
    lines = [line for line in body[1].splitlines() if line.startswith("|")] if body else []
    return [Row(*(cell.strip() for cell in line.strip("|").split("|"))) for line in lines[2:]]


def all_rows() -> list[Row]:
    return [row for section in ("keepalived", "HAProxy", "ProxySQL") for row in rows(section)]


def fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def found(path: str) -> Iterator[FieldInfo]:
    """Yield every field of the models that `path` ("fall", "eject.errors", "node.user") may mean."""
    first, _, rest = path.partition(".")
    if first in TOP and rest:
        yield from (field for key, field in fields(TOP[first]).items() if key == rest)
        return
    for model in (*PROBE_TYPES.values(), *SERVICE_KEYS, *ROUTERS):
        field = fields(model).get(first)
        if field is None:
            continue
        if not rest:
            yield field
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from (inner for key, inner in fields(field.annotation).items() if key == rest)


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
    if section := re.fullmatch(r"\[([a-z-]+)\.NAME\]", span):
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


def test_every_key_of_ours_exists():
    """Every key, value, section and command that the page names as ours is one, in the models that check the file."""
    prose = "\n".join(line for line in text().splitlines() if not line.startswith("|"))
    cells = "\n".join(f"{row.ours} {row.words}" for row in all_rows())
    spans = SPAN.findall(prose) + SPAN.findall(cells)
    assert len(spans) > 200
    assert {span: why for span in spans if (why := wrong(span))} == {}


@pytest.mark.parametrize("row", all_rows(), ids=lambda row: row.theirs[:40])
def test_each_row_says_whether_it_is_there(row):
    """A row names our keys, or says no or always; it says later of exactly those keys that `run` refuses."""
    if row.theirs.startswith("**") and not row.ours:
        return  # a heading
    assert re.fullmatch(r"no|always|(later: )?`[^`]+`(, `[^`]+`)*", row.ours), row.ours
    for span in SPAN.findall(row.ours):
        section = re.fullmatch(r"\[([a-z-]+)\.NAME\]", span)
        if section:
            later = section[1] in SECTIONS_LATER
        else:
            first = key(span).partition(".")[0]
            of_probes = any(first in fields(model) for model in PROBE_TYPES.values())
            later = not of_probes and first in LATER
        assert later == row.ours.startswith("later: "), span


def test_probe_types_and_schedulers_that_are_named_are_made():
    """Every type of probe that the page names can be made by this version, and every scheduler runs."""
    assert set(re.findall(r'`type = "([a-z0-9]+)"`', text())) <= set(CLASSES)
    for name in re.findall(r'scheduler = "([a-z-]+)"', text()):
        assert canonical(name)


@pytest.mark.parametrize("number", range(3))
def test_examples_run(number, tmp_path):
    """Each example is a whole file without errors, and `steelyard run` refuses none of its keys."""
    path = tmp_path / "steelyard.toml"
    path.write_text(examples()[number])
    config, diagnostics = diagnose(path)
    assert config is not None, [str(item) for item in diagnostics]
    assert unsupported(config) == []


@pytest.mark.parametrize(("section", "options"), OPTIONS.items())
def test_no_option_of_theirs_is_left_out(section, options):
    """Each table has a row for every health-check option of the program that it is about."""
    words = set(re.findall(r"[\w-]+", " ".join(row.theirs for row in rows(section))))
    assert set(options.split()) - words == set()
