# Packages, from one staged tree. Included by the Makefile, whose TARGET chooses the architecture.

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
MAINTAINER ?= cni-plugins-rs maintainers <maintainers@users.noreply.github.com>
# The one date in everything that is built: that of the commit.
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)
PACKAGES := cni-plugins-rs cni-conformance $(patsubst plugins/danm-shim,cni-plugins-rs-danm,$(wildcard plugins/danm-shim))
ARCH = $(firstword $(subst -, ,$(TARGET)))
STAGE = $(CARGO_TARGET_DIR)/packages/$(ARCH)/stage
DIST ?= dist

.PHONY: stage
stage: setup-package build harness
	$(say) "staging version $(VERSION) for $(ARCH)"
	@rm -rf $(STAGE)
	@umask 022 && $(MAKE) --no-print-directory install DESTDIR=$(STAGE) BINDIR=/usr/libexec/cni-plugins-rs/bin >/dev/null
	@packaging/stage $(STAGE) $(RELEASE) $(TARGET) $(VERSION)

.PHONY: deb rpm
deb: stage ## Debian packages, in dist/
	$(say) "deb: $(PACKAGES)"
	@MAINTAINER='$(MAINTAINER)' packaging/deb/build $(STAGE) $(DIST) $(ARCH) $(VERSION) $(PACKAGES)

rpm: stage ## RPM packages, in dist/
	$(say) "rpm: $(PACKAGES)"
	@MAINTAINER='$(MAINTAINER)' packaging/rpm/build $(STAGE) $(DIST) $(ARCH) $(VERSION) $(PACKAGES)

.PHONY: test-packages
test-packages: setup-test-packages deb rpm ## the packages: linted, built again, installed and removed beside others in roots of their own
	@MAINTAINER='$(MAINTAINER)' packaging/test/run $(STAGE) $(DIST) $(TARGET) $(VERSION) $(PACKAGES)
