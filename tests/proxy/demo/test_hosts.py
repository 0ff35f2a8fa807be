"""The file of the pair's demo; what is done to its hosts is in tests/e2e/test_demo_pair.py."""

from click.testing import CliRunner

from proxy.cli import main
from proxy.demo.hosts import APP_PORT, CONFIG, DNS_PORT
from proxy.demo.site import ADDRESS, SERVERS


def test_the_file_is_one_that_check_accepts(tmp_path):
    """The file that the demo shows is legal on both of its hosts, so that it may be copied from."""
    text = CONFIG.format(folder=tmp_path, address=ADDRESS, dns_port=DNS_PORT, app_port=APP_PORT, **SERVERS)
    file = tmp_path / "steelyard.toml"
    file.write_text(text)
    for node in ("lb1", "lb2"):
        done = CliRunner().invoke(main, ["check", str(file), "--node", node])
        assert done.exit_code == 0, done.output
