"""The stage for the real client: a network of its own, the server in it, and a virtual machine with sstpc and pppd.

Reading order: network, pki, server, machine, client, stage, report.
"""
