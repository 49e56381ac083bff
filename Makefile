# The commands of this workspace. `make help` lists them.

PLUGINS := $(notdir $(patsubst %/,%,$(wildcard plugins/*/)))
# Runs in a DaemonSet and puts the plugins on nodes; no plugin itself.
INSTALLER := multus-installer
MACHINE := $(shell uname -m)
# Static either way; musl starts faster. Where its target can't be had, the C library is linked in. Asked when it is
# needed and not before: the set-up may have added the target in this very run.
target_of = $(1)-unknown-linux-$(if $(shell rustup target list --installed 2>/dev/null | grep -x $(1)-unknown-linux-musl),musl,gnu)
TARGET  ?= $(call target_of,$(MACHINE))
ARCH     = $(firstword $(subst -, ,$(TARGET)))
# For another architecture than this machine's, Debian's cross compiler links, and compiles the C in ring. Its headers are
# those of glibc, whose checked variants of functions musl doesn't have.
# In a folder of its own: cargo lets nobody else build in the same one meanwhile.
FOREIGN  = $(filter-out $(MACHINE),$(ARCH))
BUILT    = $(CARGO_TARGET_DIR)$(FOREIGN:%=/%)
CROSS    = $(if $(FOREIGN),CARGO_TARGET_DIR=$(BUILT) $(call cross,$(ARCH)-linux-gnu-gcc,$(subst -,_,$(TARGET))) $(if $(QUICK),$(quick)))
cross    = CARGO_TARGET_$(shell echo $(2) | tr a-z A-Z)_LINKER=$(1) CC_$(2)=$(1) CFLAGS_$(2)=-U_FORTIFY_SOURCE
# QUICK=1: programs for other architectures are built in half the time, to be looked at and not to be used.
QUICK   ?=
quick    = CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1
# The date of packages is that of the commit. Programs have none, and need not be built anew for each commit.
CARGO    = env -u SOURCE_DATE_EPOCH cargo
# Neither this folder nor the user's shows in a program: two builds of one source are the same, byte by byte.
STATIC = CARGO_TARGET_$(shell echo $(TARGET) | tr a-z- A-Z_)_RUSTFLAGS="$(if $(findstring gnu,$(TARGET)),-Ctarget-feature=+crt-static )$(REMAP)"
REMAP  = --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo --remap-path-prefix=$(CURDIR)=/src
CARGO_TARGET_DIR ?= target
RELEASE = $(BUILT)/$(TARGET)/release
DESTDIR ?=
BINDIR  ?= /opt/cni/bin
GO_PLUGINS ?= /usr/lib/cni
KNOWN_GO := conformance/known/containernetworking-plugins-1.1.1.json

# Plugins whose link type this kernel lacks: their tests run in User-Mode Linux, all others on the kernel itself.
LAB = $(CURDIR)/conformance/lab/lab.sh
IN_LAB = $(strip $(foreach kind,$(filter macvlan ipvlan,$(PLUGINS)),$(if $(shell conformance/lab/has-link.sh $(kind) && echo yes),,$(kind))))
ON_KERNEL = $(filter-out $(IN_LAB),$(PLUGINS))
# Debian's portmap has one backend; its ipvlan is asked in one way of working, because the lab is slow. multus and danm are not among them.
of_go = $(patsubst portmap,portmap-iptables,$(patsubst ipvlan,ipvlan-ipam,$(filter-out multus danm-shim,$(1))))
SUITE = $(RELEASE)/cni-conformance
RUNNER = CARGO_TARGET_$(shell rustc -vV | sed -n 's/^host: //p' | tr a-z- A-Z_)_RUNNER

# The walk is told only when it goes wrong.
walk = docs/demo.sh $(RELEASE) samplepod >$(1) 2>&1 && tail -n 1 $(1) || { cat $(1); exit 1; }
say = @printf '\n== %s\n'

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile packaging/package.mk | expand -t 15

.PHONY: build
build: setup-build ## the plugins and the installer, static, in target/.../release
	$(say) "building $(PLUGINS) $(INSTALLER) for $(TARGET)"
	@# One run for each: built together they would share the features that any one of them asks for.
	@for plugin in $(PLUGINS) $(INSTALLER); do $(STATIC) $(CROSS) $(CARGO) build --quiet --locked --release --target $(TARGET) -p $$plugin || exit; done
	@cd $(RELEASE) && ls -l $(PLUGINS) $(INSTALLER) | awk '{ printf "%-16s %7.2f MB\n", $$9, $$5 / 1e6 }'

.PHONY: harness
harness: setup-build ## the conformance suite
	$(say) "building the conformance suite"
	@$(STATIC) $(CROSS) $(CARGO) build --quiet --locked --release --target $(TARGET) -p cni-conformance

.PHONY: install
install: build ## the plugins into $(DESTDIR)/opt/cni/bin
	@mkdir -p $(DESTDIR)$(BINDIR)
	@# A plugin may be running: a new file takes the name in one step, and nobody meets half of it.
	@for plugin in $(PLUGINS); do \
	    install -m 0755 $(RELEASE)/$$plugin $(DESTDIR)$(BINDIR)/.$$plugin.new && \
	    mv -f $(DESTDIR)$(BINDIR)/.$$plugin.new $(DESTDIR)$(BINDIR)/$$plugin || exit; \
	    echo "$(DESTDIR)$(BINDIR)/$$plugin"; \
	done
	@# The `type` in configurations of DANM.
	@ln -sfn danm-shim $(DESTDIR)$(BINDIR)/danm

.PHONY: demo
demo: setup-demo build harness ## the pods of docs/examples get the interfaces that their annotations ask for, from multus and danm, and lose them again
	@docs/demo.sh $(RELEASE) samplepod
	@docs/demo.sh $(RELEASE) samplepod-danm samplepod3

.PHONY: test
test: setup-test setup-test-packages build harness ## all tests: units, binaries, the suite over our plugins and the Go ones, the packages
	$(say) "unit and binary tests"
	@NO_SKIP=1 cargo test --quiet --locked --workspace $(IN_LAB:%=--exclude %)
	$(say) "unit and binary tests on another kernel, whose links this one lacks: $(or $(IN_LAB),none)"
	@$(if $(IN_LAB),conformance/lab/test.sh)
	@$(if $(IN_LAB),NO_SKIP=1 $(RUNNER)=$(LAB) cargo test --quiet --locked $(IN_LAB:%=-p %))
	@$(if $(filter ipvlan,$(IN_LAB)),$(RUNNER)=$(LAB) cargo test --quiet --locked -p danm-shim --test danm -- ipvlan sriov)
	@$(MAKE) --no-print-directory -j2 foreign-stages suite-lab
	$(say) "the walk of the demo: our multus with the Go plugins, and under a runtime that knows only lists"
	@DEMO_PLUGINS=$(GO_PLUGINS) $(call walk,$(RELEASE)/walk-go.log)
	@DEMO_RUNTIME=conflist $(call walk,$(RELEASE)/walk-conflist.log)
	@$(MAKE) --no-print-directory test-packages

# The suite over our plugins and over the Go ones with their known deviations; the two kernels work side by side. This machine's is
# done first: meanwhile what packages for other architectures are cut from is built.
.PHONY: foreign-stages suite-kernel suite-lab
foreign-stages: suite-kernel
	@$(foreach arch,$(filter-out $(MACHINE),$(ARCHES)),$(MAKE) -j1 --no-print-directory stage-$(arch) &&) true

suite-kernel:
	$(say) "conformance of our plugins: $(ON_KERNEL)"
	@$(SUITE) --bin-dir $(RELEASE) $(ON_KERNEL)
	$(say) "the same over the Go plugins in $(GO_PLUGINS) with their known deviations"
	@$(SUITE) --bin-dir $(GO_PLUGINS) --known $(KNOWN_GO) $(call of_go,$(ON_KERNEL))

suite-lab:
ifneq ($(IN_LAB),)
	$(say) "conformance on the other kernel: our $(IN_LAB)"
	@$(LAB) -t 2400 $(SUITE) --bin-dir $(RELEASE) $(IN_LAB)
	$(say) "conformance on the other kernel: the Go $(IN_LAB) at 1.0.0"
	@$(LAB) -t 1200 $(SUITE) --bin-dir $(GO_PLUGINS) --known $(KNOWN_GO) --cni-version 1.0.0 $(call of_go,$(IN_LAB))
endif

.PHONY: bench
bench: setup-test build harness ## what a call costs, ours beside the Go plugins in GO_PLUGINS
	$(say) "costs of the plugins in $(RELEASE) and of those in $(GO_PLUGINS)"
	@$(RELEASE)/cni-bench --bin-dir $(RELEASE) --peer $(GO_PLUGINS)

.PHONY: lint
lint: setup-build ## formatting and lints; licences too when cargo-deny is installed
	$(say) "formatting and lints"
	@cargo fmt --all --check
	@cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny --log-level error check licenses bans sources; \
	 else echo "cargo-deny is not installed: licences and banned crates were not checked"; fi

include packaging/package.mk

.PHONY: setup-build setup-demo setup-test setup-package setup-test-packages
setup-build setup-demo setup-test setup-package setup-test-packages: setup-%:
	@.ci/setup $*
