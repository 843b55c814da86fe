"""The process that trains: its loop, a leased trial, group sizes, devices, records and replays."""
