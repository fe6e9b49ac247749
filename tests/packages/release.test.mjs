// The files of a release, made by release/pack out of a stand-in for the program, and what installs them. In: archives, whole
// and broken. Out: what install.sh installs or refuses. Promise: nothing is installed whose checksum or signature is wrong.
// The build itself takes minutes and other machines: release/build checks what it makes.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { appendFileSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { run } from "./lib/project.mjs";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const VERSION = /^version = "(.*)"$/m.exec(readFileSync(join(ROOT, "Cargo.toml"), "utf8"))[1];
const ARCH = process.arch === "arm64" ? "arm64" : "amd64";
const NAME = `clickstamp-${VERSION}-linux-${ARCH}`;
const ARCHIVE = `${NAME}.tar.gz`;
const DEB = `clickstamp_${VERSION}_${ARCH}.deb`;
const has = (command) => spawnSync("sh", ["-c", `command -v ${command}`]).status === 0;

const scratch = mkdtempSync(join(tmpdir(), "clickstamp-release-"));
after(() => rmSync(scratch, { recursive: true, force: true }));
const program = join(scratch, "program");
writeFileSync(program, `#!/bin/sh\necho "clickstamp ${VERSION}"\n`, { mode: 0o755 });
const pack = (name) => {
  const out = join(scratch, name);
  run(join(ROOT, "release/pack"), [program, ARCH, out], { env: { ...process.env, SOURCE_DATE_EPOCH: "1790000000" } });
  return out;
};
const out = pack("out");

test("the same program gives the same bytes", () => {
  assert.deepEqual(readdirSync(out).sort(), ["SHA256SUMS", ARCHIVE, `${NAME}.cdx.json`, DEB].sort());
  assert.equal(readFileSync(join(pack("again"), "SHA256SUMS"), "utf8"), readFileSync(join(out, "SHA256SUMS"), "utf8"));
  run("sha256sum", ["--check", "--strict", "--quiet", "SHA256SUMS"], { cwd: out });
});

test("the archive and the package contain the program, its service, its settings and the license", () => {
  const listed = run("tar", ["-tvzf", join(out, ARCHIVE)]);
  for (const file of ["clickstamp", "clickstamp.service", "clickstamp.env", "LICENSE", "README.md", "CHANGELOG.md"]) assert.match(listed, new RegExp(` ${NAME}/${file}$`, "m"));
  assert.match(listed, /^-rwxr-xr-x 0\/0 .*\/clickstamp$/m);

  const contents = run("dpkg-deb", ["--contents", join(out, DEB)]);
  for (const [mode, path] of [["-rwxr-xr-x", "usr/bin/clickstamp"], ["-rw-------", "etc/clickstamp.env"], ["-rw-r--r--", "lib/systemd/system/clickstamp.service"], ["-rw-r--r--", "usr/share/doc/clickstamp/copyright"]])
    assert.match(contents, new RegExp(`^${mode} root/root .* \\./${path}$`, "m"));
  const field = (name) => run("dpkg-deb", ["--field", join(out, DEB), name]).trim();
  assert.deepEqual(["Package", "Version", "Architecture"].map(field), ["clickstamp", VERSION, ARCH]);
  assert.equal(run("dpkg-deb", ["--info", join(out, DEB), "conffiles"]).trim(), "/etc/clickstamp.env");
  for (const script of ["postinst", "prerm", "postrm"]) run("sh", ["-n", join(ROOT, "release/deb", script)]);
});

test("the list of crates is complete: what is compiled in, with licenses and checksums, and nothing that only tests use", () => {
  const list = JSON.parse(readFileSync(join(out, `${NAME}.cdx.json`), "utf8"));
  assert.deepEqual([list.bomFormat, list.specVersion, list.metadata.component.version], ["CycloneDX", "1.5", VERSION]);
  const names = new Set(list.components.map(({ name }) => name));
  for (const name of ["axum", "sqlx", "ring", "libsqlite3-sys", "cc"]) assert.ok(names.has(name), name);
  for (const name of ["proptest", "standardwebhooks", "clickstamp", "windows-sys"]) assert.ok(!names.has(name), name);
  for (const { name, purl, licenses, hashes } of list.components) assert.ok(purl.startsWith("pkg:cargo/") && licenses?.length && hashes?.length, name);
  const references = new Set(list.components.map((component) => component["bom-ref"]));
  for (const { dependsOn } of list.dependencies) for (const reference of dependsOn) assert.ok(references.has(reference), reference);
});

test("the service can do little more than its work", { skip: !has("systemd-analyze") && "systemd-analyze is not installed" }, () => {
  const unit = join(scratch, "clickstamp.service");
  writeFileSync(unit, readFileSync(join(ROOT, "release/clickstamp.service"), "utf8").replace("/usr/bin/clickstamp", program));
  const said = spawnSync("systemd-analyze", ["verify", unit], { encoding: "utf8" });
  assert.doesNotMatch(said.stderr, /clickstamp/);
  const [, exposure] = /exposure level for clickstamp\.service: ([\d.]+)/.exec(run("systemd-analyze", ["security", "--offline=true", "--no-pager", unit]));
  assert.ok(Number(exposure) < 2, exposure);
});

/** Runs install.sh; returns its exit code, what it printed, and the program it installed. */
const install = (...args) => {
  const prefix = mkdtempSync(join(scratch, "prefix-"));
  const ran = spawnSync(join(ROOT, "install.sh"), ["--prefix", prefix, ...args], { encoding: "utf8" });
  const installed = join(prefix, "bin/clickstamp");
  return { status: ran.status, said: ran.stdout + ran.stderr, installed: existsSync(installed) && installed };
};
const refuses = (pattern, ...args) => {
  const { status, said, installed } = install(...args);
  assert.deepEqual([status, installed], [1, false], said);
  assert.match(said, pattern);
};
/** A copy of the release, to be broken. */
const copy = (name) => {
  const directory = join(scratch, name);
  mkdirSync(directory);
  for (const file of [ARCHIVE, "SHA256SUMS"]) copyFileSync(join(out, file), join(directory, file));
  return directory;
};

test("install.sh installs an archive whose checksum is right", () => {
  const { status, said, installed } = install(join(out, ARCHIVE));
  assert.equal(status, 0, said);
  assert.equal(run(installed, ["--version"]).trim(), `clickstamp ${VERSION}`);
  assert.match(said, /clickstamp demo/);
});

test("install.sh refuses what was changed, is not listed, is for another machine, or comes over plain http", () => {
  const changed = copy("changed");
  appendFileSync(join(changed, ARCHIVE), "x");
  refuses(/checksum of .* is wrong; nothing was installed/, join(changed, ARCHIVE));
  const unlisted = copy("unlisted");
  writeFileSync(join(unlisted, "SHA256SUMS"), readFileSync(join(unlisted, "SHA256SUMS"), "utf8").replaceAll(ARCHIVE, `x${ARCHIVE}`));
  refuses(/does not list/, join(unlisted, ARCHIVE));
  const other = ARCH === "amd64" ? "arm64" : "amd64";
  refuses(new RegExp(`is for ${other}`), join(out, ARCHIVE.replace(ARCH, other)));
  refuses(/only https/, `http://example.com/${ARCHIVE}`);
  refuses(/not the name of an archive/, join(out, DEB));
  refuses(/cannot get/, join(scratch, ARCHIVE));
  assert.equal(install().status, 2);
});

test("install.sh downloads the archive and its checksums", { skip: !has("curl") && !has("wget") && "neither curl nor wget is installed" }, async () => {
  const server = http.createServer((request, response) => {
    const file = join(out, request.url.split("?")[0].slice(1));
    if (existsSync(file)) response.end(readFileSync(file));
    else response.writeHead(404).end();
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  const prefix = mkdtempSync(join(scratch, "prefix-"));
  const download = (name) =>
    new Promise((resolve) => spawn(join(ROOT, "install.sh"), ["--prefix", prefix, `http://127.0.0.1:${server.address().port}/${name}`]).on("exit", resolve));
  try {
    assert.equal(await download(ARCHIVE.replace(VERSION, "9.9.9")), 1);
    assert.equal(existsSync(join(prefix, "bin/clickstamp")), false);
    assert.equal(await download(ARCHIVE), 0);
    assert.equal(run(join(prefix, "bin/clickstamp"), ["--version"]).trim(), `clickstamp ${VERSION}`);
  } finally {
    server.close();
  }
});

test("with a key, install.sh checks the signature", { skip: !has("minisign") && "minisign is not installed (apt install minisign)" }, () => {
  const directory = copy("signed");
  const [secret, open] = [join(scratch, "secret.key"), join(scratch, "open.pub")];
  run("minisign", ["-G", "-W", "-p", open, "-s", secret]);
  run("minisign", ["-S", "-s", secret, "-m", join(directory, "SHA256SUMS")]);
  const key = readFileSync(open, "utf8").trim().split("\n").pop();
  assert.equal(install("--key", key, join(directory, ARCHIVE)).status, 0);
  appendFileSync(join(directory, "SHA256SUMS"), "\n");
  refuses(/signature is wrong; nothing was installed/, "--key", key, join(directory, ARCHIVE));
  refuses(/cannot get .*minisig/, "--key", key, join(out, ARCHIVE));
});

test("the images and compose.yaml run without root, without capabilities, and on a root that cannot be written", async () => {
  for (const file of ["Dockerfile", "release/Dockerfile"]) {
    const text = readFileSync(join(ROOT, file), "utf8");
    const last = text.slice(text.lastIndexOf("\nFROM "));
    for (const line of ["FROM scratch", "USER 10001:10001", "VOLUME /data", 'CMD ["/usr/local/bin/clickstamp", "healthcheck"]']) assert.ok(last.includes(line), `${file}: ${line}`);
    assert.ok(!/^FROM \S+(:latest)?$/m.test(text.replace("FROM scratch", "")), `${file}: every base has a version`);
  }
  const { load } = await import("js-yaml");
  const { services, volumes } = load(readFileSync(join(ROOT, "compose.yaml"), "utf8"));
  const { clickstamp, postgres, caddy } = services;
  assert.deepEqual([clickstamp.read_only, clickstamp.cap_drop, clickstamp.security_opt], [true, ["ALL"], ["no-new-privileges:true"]]);
  assert.deepEqual([clickstamp.profiles, postgres.profiles, caddy.profiles], [undefined, ["postgres"], ["caddy"]]);
  assert.deepEqual(clickstamp.ports, ["127.0.0.1:8080:8080"]);
  const reference = readFileSync(join(ROOT, "docs/reference.md"), "utf8");
  for (const name of Object.keys(clickstamp.environment)) assert.ok(reference.includes(`\`${name}\``), name);
  for (const service of Object.values(services)) for (const volume of service.volumes) assert.ok(volume.split(":")[0] in volumes, volume);
});
