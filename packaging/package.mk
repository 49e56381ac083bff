# Packages and the image, from one staged tree for each architecture. Included by the Makefile.

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
MAINTAINER ?= cni-plugins-rs maintainers <maintainers@users.noreply.github.com>
# The one date in everything that is built: that of the commit.
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)
# The commit that the image's labels name.
export REVISION ?= $(shell git rev-parse HEAD 2>/dev/null)
PACKAGES := cni-plugins-rs cni-conformance $(patsubst plugins/danm-shim,cni-plugins-rs-danm,$(wildcard plugins/danm-shim))
# The architectures that everything is built for.
ARCHES ?= x86_64 aarch64
stage_of = $(CARGO_TARGET_DIR)/packages/$(1)/stage
STAGE = $(call stage_of,$(ARCH))
STAGES = $(foreach arch,$(ARCHES),$(arch)=$(call stage_of,$(arch)))
DIST ?= dist
IMAGE = $(DIST)/cni-plugins-rs-$(VERSION).oci.tar
CHART = $(DIST)/cni-plugins-rs-chart-$(VERSION).tgz

# The tree for TARGET; the trees for all.
.PHONY: stage stages $(ARCHES:%=stage-%)
$(ARCHES:%=stage-%): stage-%: setup-package
	@$(MAKE) --no-print-directory stage TARGET=$(call target_of,$*)

# Side by side, because linking keeps one core busy and no more.
stages: setup-package
	@$(MAKE) --no-print-directory -j$(words $(ARCHES)) $(ARCHES:%=stage-%)

stage: setup-package build harness
	$(say) "staging version $(VERSION) for $(ARCH)"
	@rm -rf $(STAGE)
	@umask 022 && $(MAKE) --no-print-directory install DESTDIR=$(STAGE) BINDIR=/usr/libexec/cni-plugins-rs/bin >/dev/null
	@packaging/stage $(STAGE) $(RELEASE) $(TARGET) $(VERSION)

.PHONY: deb rpm image chart checksums
deb: stages ## Debian packages, in dist/
	$(say) "deb: $(PACKAGES)"
	@for arch in $(ARCHES); do \
	    MAINTAINER='$(MAINTAINER)' packaging/deb/build $(call stage_of,$$arch) $(DIST) $$arch $(VERSION) $(PACKAGES) || exit; \
	done

rpm: stages ## RPM packages, in dist/
	$(say) "rpm: $(PACKAGES)"
	@for arch in $(ARCHES); do \
	    MAINTAINER='$(MAINTAINER)' packaging/rpm/build $(call stage_of,$$arch) $(DIST) $$arch $(VERSION) $(PACKAGES) || exit; \
	done

image: stages ## the container image of the DaemonSet, an OCI archive for all architectures, in dist/
	$(say) "image: $(ARCHES)"
	@packaging/image/build $(VERSION) $(IMAGE) $(STAGES)
	@du -h $(IMAGE)

chart: ## the Helm chart, in dist/
	@mkdir -p $(DIST)
	@tar -c -C packaging --format=ustar --sort=name --mtime=@$(SOURCE_DATE_EPOCH) --mode=u=rwX,go=rX \
	    --owner=0 --group=0 --numeric-owner --transform=s,^chart,cni-plugins-rs, chart | gzip -9n >$(CHART)
	@du -h $(CHART)

checksums: ## dist/SHA256SUMS of what is in dist/
	@cd $(DIST) && rm -f SHA256SUMS && sha256sum -- * >SHA256SUMS.new && mv SHA256SUMS.new SHA256SUMS && cat SHA256SUMS

# What checks manifests and workflows, apart from the machine's own.
PYTHON_TOOLS = $(CARGO_TARGET_DIR)/packages/python/bin

.PHONY: test-packages test-image test-manifests test-workflows
test-packages: setup-test-packages deb rpm test-image test-manifests test-workflows ## the packages: linted, built again, installed and removed beside others in roots of their own
	$(say) "architectures: $(ARCHES)"
	@packaging/test/architectures $(DIST) $(VERSION) '$(ARCHES)' $(PACKAGES)
	@MAINTAINER='$(MAINTAINER)' packaging/test/run $(STAGE) $(DIST) $(TARGET) $(VERSION) $(PACKAGES)

test-image: setup-test-packages image chart
	$(say) "the image, run as the manifests say"
	@$(PYTHON_TOOLS)/python packaging/test/image $(IMAGE) $(CHART) $(VERSION) $(STAGES)

test-manifests: setup-test-packages chart $(MACHINE:%=stage-%)
	$(say) "manifest, kustomization and chart"
	@$(PYTHON_TOOLS)/python packaging/test/manifests $(CHART) $(call stage_of,$(MACHINE))/usr/sbin/multus-installer $(VERSION)

test-workflows: setup-test-packages
	$(say) "workflows"
	@$(PYTHON_TOOLS)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(PYTHON_TOOLS)/zizmor --quiet --offline --persona pedantic .github/workflows
