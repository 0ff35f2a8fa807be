"""What the clients of the benchmarks print is read, and what is not their output is refused."""

import json

import pytest

from bench import outputs
from bench.outputs import OutputError, Sample

DNSPERF = """
> NOERROR h0.example.net A 0.000123
> NXDOMAIN nothing-4.example.net A 0.001000
[Timeout] Query timed out: msg id 7
Statistics:

  Queries sent:         1003
  Queries completed:    1000 (99.70%)
  Queries lost:         3 (0.30%)

  Response codes:       NOERROR 890 (89.00%), SERVFAIL 10 (1.00%), NXDOMAIN 100 (10.00%)
  Average packet size:  request 40, response 120
  Run time (s):         1.250000
  Queries per second:   800.000000
"""

SYSBENCH = """
Latency histogram (values are in milliseconds)
       value  ------------- distribution ------------- count
       1.037 |*                                        2
       2.071 |**                                       3

SQL statistics:
    queries performed:
        read:                            140
        write:                           0
        other:                           0
        total:                           140
    transactions:                        10     (9.9 per sec.)
    queries:                             140    (139.6 per sec.)
    ignored errors:                      1      (0.00 per sec.)

General statistics:
    total time:                          1.0027s
"""

H2LOAD = """
requests: 100 total, 102 started, 100 done, 97 succeeded, 1 failed, 0 errored, 0 timeout
status codes: 97 2xx, 0 3xx, 1 4xx, 2 5xx
"""


def test_dnsperf_counts():
    """Of dnsperf: answers with an expected code are work, others have failed, what has no answer is lost."""
    assert outputs.dnsperf(DNSPERF) == Sample(work=990, seconds=1.25, failed=10, lost=3)


def test_dnsperf_without_an_answer():
    """A run in which nothing was answered has no codes, and no work."""
    text = "Queries completed:    0 (0.00%)\nQueries lost:         5 (100%)\nRun time (s):         1.0\n"
    assert outputs.dnsperf(text) == Sample(work=0, seconds=1.0, failed=0, lost=5)


def test_dnsperf_latencies():
    """`dnsperf -v` has the latency of each answer in seconds."""
    assert outputs.dnsperf_latencies(DNSPERF) == [0.000123, 0.001]


def test_sysbench():
    """Of sysbench: queries, seconds, errors, and each transaction's latency from the histogram."""
    assert outputs.sysbench(SYSBENCH) == Sample(work=140, seconds=1.0027, failed=1)
    assert outputs.sysbench_latencies(SYSBENCH) == pytest.approx([0.001037] * 2 + [0.002071] * 3)


def test_h2load():
    """Of h2load: the latency of each good answer, and how many had none."""
    assert outputs.h2load_latencies("1796025090187585\t200\t561\n1796025090187593\t503\t9\n") == [0.000561]
    assert outputs.h2load_failed(H2LOAD) == 4


def test_iperf3():
    """Of iperf3: what has arrived, not what was sent."""
    end = {"sum_sent": {"bytes": 9, "seconds": 1.0}, "sum_received": {"bytes": 8, "seconds": 1.1}}
    assert outputs.iperf3(json.dumps({"end": end})) == Sample(work=8, seconds=1.1)


@pytest.mark.parametrize("read", [outputs.dnsperf, outputs.sysbench, outputs.h2load_failed, outputs.iperf3])
def test_what_is_something_else_is_refused(read):
    """An output without the figures raises an error that shows it."""
    with pytest.raises(OutputError, match="unable to connect"):
        read('{"end": {}, "error": "unable to connect"}')
