# Holdfast. `make run` shows it at work, `make test` is all that has to pass.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help build run check test race states damage lint 386 arm64 fuzz crash powercut hostile hostile-short reload soak cross package reproducible vm bench bench-broker bench-bridge bench-journal loss cluster fleet dashboard clean setup

export CGO_ENABLED = 0

# May be set on the command line: make fuzz FUZZTIME=5m
ARGS     =
VERSION  =
SIGN     =
FUZZTIME = 30s
KILLS    = 200
CUTS     = 20
SEEDS    = 2000
SOAK     = 10m
RELOADS  = 1000
BENCH    = .

# Run for arm64 under QEMU, but for tests that start binaries of their own: the kernel does not know
# arm64 programs.
ARM64_PACKAGES = ./broker/... ./sensors/... ./gateway/config
ARM64_SKIP     = ^Test(Kill|Mutants|WrongPermissions|RabbitMQ)

# Packages of the module scripts that need nothing but the product: lint and race include them. The others take
# minutes to compile; their own targets vet them.
SCRIPTS = ./bench/bridge ./child ./guest ./hostile ./powercut ./sign ./vm

# $(call tool,bench/journal) builds scripts/bench/journal as bin/bench-journal, which is then run here: paths in ARGS
# start at the top of the repository.
tool = go build -C scripts -o '$(CURDIR)/bin/$(subst /,-,$(1))' ./$(1) && bin/$(subst /,-,$(1))

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build bin/holdfast for this machine
	go build -o bin/holdfast ./cmd/holdfast

run: build ## Build and run the demo; ARGS="--for 60s" and others are passed on
	./bin/holdfast demo $(ARGS)

check: lint ## Before each commit, in two minutes: lint, and the tests that need no program but Go
	go test -short -timeout 5m ./...
	cd scripts && go test -short -timeout 5m $(SCRIPTS)

test: setup lint race states cluster 386 arm64 cross ## Everything: set-up, lint, race, states, cluster, 386, arm64, cross

race: ## All tests under the race detector
	CGO_ENABLED=1 go test -race -timeout 15m ./...
	cd scripts && CGO_ENABLED=1 go test -race -timeout 15m $(SCRIPTS)

states: ## Thousands of states that a power cut could leave, mistakes that they have to find, and faults of links
	go test -run '^Test(Crash|Mutants)' -count 1 -timeout 15m ./broker/journal
	HOLDFAST_FAULT_RUNS=1000 go test -run '^TestFaults' -count 1 -timeout 15m ./broker/bridge

damage: ## Journals with damaged files, SEEDS=2000 of them
	HOLDFAST_DAMAGE_SEEDS=$(SEEDS) go test -run '^TestDamageOfAnything' -count 1 -timeout 60m ./broker/journal

lint: ## gofmt, go vet, staticcheck, and whether every go.mod is up to date
	@files=$$(gofmt -l .); [ -z "$$files" ] || { echo "gofmt -w $$files"; exit 1; }
	go vet ./...
	go tool staticcheck ./...
	tool=$$(go tool -n staticcheck) && cd scripts && go vet $(SCRIPTS) && $$tool $(SCRIPTS)
	@for m in $$(git ls-files '*go.mod'); do (cd $$(dirname $$m) && go mod tidy -diff) || { echo "$$m: go mod tidy"; exit 1; }; done

arm64: ## Tests as arm64 binaries under QEMU; ARM64_PACKAGES says which
	GOARCH=arm64 HOLDFAST_CRASH_STATES=500 go test -exec qemu-aarch64-static -skip '$(ARM64_SKIP)' -timeout 15m $(ARM64_PACKAGES)

386: ## Tests of the broker in 32-bit arithmetic, as on a Pi Zero
	GOARCH=386 HOLDFAST_CRASH_STATES=200 HOLDFAST_DAMAGE_SEEDS=40 go test -skip '^TestMutants' -timeout 15m ./broker/wire ./broker/journal ./broker/server/... ./broker/bridge

fuzz: ## Every fuzz target in turn, FUZZTIME=30s each
	scripts/fuzz $(FUZZTIME)

crash: ## SIGKILL in the middle of work, KILLS=200 times a test
	HOLDFAST_CRASH_KILLS=$(KILLS) go test -run '^Test(Kill|NothingIsLost)' -count 1 -timeout 60m -v ./broker/journal ./broker/server ./cmd/holdfast

powercut: ## A guest in QEMU loses its power under load, CUTS=20 times; what was acknowledged is on its disk
	assets=$$(scripts/powercut/setup) && $(call tool,powercut) -assets "$$assets" -kills $(CUTS)

hostile: build ## Hostile clients against a gateway, 1,000 runs, and damaged data directories in a chain; ARGS="-seed 7 -runs 1" for some
ifeq ($(ARGS),)
	$(call tool,hostile) -runs 1000
	$(call tool,hostile) -damage -runs 200
	$(call tool,hostile) -worst -runs 1
else
	$(call tool,hostile) $(ARGS)
endif

hostile-short: build ## The same for a minute
	$(call tool,hostile) -runs 40 -seconds 45
	$(call tool,hostile) -damage -runs 6 -seconds 20

reload: ## A gateway under load is given 1,000 configurations, every second one wrong, RELOADS=1000
	HOLDFAST_RELOADS=$(RELOADS) go test -run TestReloadUnderLoad -count 1 -timeout 30m -v ./gateway

soak: ## 200 simulated sensors on 8 buses with 5 % faults, on a fake clock and in real time, SOAK=10m
	HOLDFAST_SOAK=$(SOAK) go test -tags soak -run TestSoak -count 1 -timeout 0 -v ./sensors

cross: ## Static binaries for arm64, armv7 and armv6 in dist/
	scripts/cross

package: cross ## Debian packages, archives, SBOMs and SHA256SUMS of them in dist/; VERSION=1.2.3 SIGN=KEYFILE
	rm -f dist/holdfast_* dist/SHA256SUMS dist/SHA256SUMS.sig dist/install.sh
	$(call tool,package) -out dist -version '$(VERSION)' $(if $(SIGN),-sign '$(abspath $(SIGN))')

reproducible: ## Packages of the same commit, built in two places without a common cache, are the same bytes
	scripts/reproducible

vm: ## The package in a booted Debian 12 for arm64: install, upgrade, power cuts, removal, and the figures
	set -e; dirs=$$(scripts/vm/setup); $(call tool,vm) -assets $${dirs% *} -system $${dirs#* } -readme deploy/README.md $(ARGS)

bench: ## Benchmarks; BENCH=Name for some
	go test -run '^$$' -bench '$(BENCH)' -benchmem ./...

bench-broker: setup ## Broker, Mosquitto and nats-server side by side; ARGS=-quick for less than two minutes
	cd scripts && go vet ./bench/broker
	$(call tool,bench/broker) $(ARGS)

bench-bridge: setup build ## Holdfast and Mosquitto as gateways to an upstream; ARGS=-quick for two minutes
	$(call tool,bench/bridge) $(ARGS)

loss: setup build ## Holdfast and Mosquitto over an interface that loses 30 % of all packets; needs namespaces, TUN
	$(call tool,bench/bridge) -only loss $(ARGS)

bench-journal: ## The journal beside other durable logs; ARGS="-h" lists the options
	cd scripts && go vet ./bench/journal
	$(call tool,bench/journal) -dir bin -json bin/bench-journal.json -svg bin/bench-journal.svg $(ARGS)

cluster: ## Three NATS nodes and 5 gateways: a node is killed in the middle of a drain; what make fleet does, in a minute
	cd scripts && go vet ./fleet
	$(call tool,fleet) -gateways 5 -backlog 400 -outage 0

fleet: ## Three NATS nodes and 20 gateways: a node is killed in the middle of a drain, then all of them
	$(call tool,fleet) $(ARGS)

dashboard: build ## The dashboard in a headless Chromium; ARGS="-pictures DIR" keeps screenshots
	scripts/dashboard/setup
	cd scripts && go vet ./dashboard
	$(call tool,dashboard) $(ARGS)

clean: ## Remove bin/ and dist/
	rm -rf bin dist

setup:
	scripts/setup-test
