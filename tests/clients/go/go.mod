module skein/tests/harness

go 1.26.0
