"""What programs and FIFOs are told of services and backends; the vrrp process tells them of its routers itself."""
