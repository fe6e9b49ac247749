// A WordPress with the plugin, on a database of its own. Takes Debian's packages wordpress, php-cli, php-mysql and
// mariadb-server-core; returns its address and a way to run PHP in it. Guarantees that it uses no network, needs no
// settings of the machine, and leaves nothing behind.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { run } from "./project.mjs";

const SOURCE = "/usr/share/wordpress";
const PLUGIN = fileURLToPath(new URL("../../../packages/wordpress", import.meta.url));

/** What is missing on this machine, as the reason to skip a test; false if nothing is. */
export const lacksPhp = spawnSync("php", ["--version"]).status === 0 ? false : "PHP is not installed (apt install php-cli)";
export const lacksWordPress =
  lacksPhp ||
  (!existsSync(`${SOURCE}/wp-settings.php`) && "WordPress is not installed (apt install --no-install-recommends wordpress)") ||
  (spawnSync("php", ["-r", "exit(extension_loaded('mysqli') ? 0 : 1);"]).status !== 0 && "PHP has no mysqli (apt install php-mysql)") ||
  (spawnSync("mariadbd", ["--version"]).status !== 0 && "MariaDB is not installed (apt install mariadb-server-core mariadb-client)");

const freePort = async () => {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
};
/** Resolves when something accepts connections there; fails when the process ends first. */
const accepts = async (child, target) => {
  for (let isUp = false; !isUp; ) {
    if (child.exitCode !== null) throw new Error(`ended: ${child.spawnargs.join(" ")}\n${child.said}`);
    isUp = await new Promise((resolve) => {
      const socket = net.connect(target);
      socket.on("connect", () => (socket.destroy(), resolve(true)));
      socket.on("error", () => setTimeout(() => resolve(false), 20));
    });
  }
};
const start = (command, args, options) => {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], ...options });
  child.said = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (child.said += text));
  child.on("error", () => {});
  return child;
};

/** The theme: as small as one can be, with a text before wp_head() as themes have it. */
const THEME = {
  "style.css": "/* Theme Name: Shop */",
  "index.php": `<!doctype html><html <?php language_attributes(); ?>><head><meta charset="utf-8"><?php wp_head(); ?></head>
    <body><?php while (have_posts()) { the_post(); the_content(); } wp_footer(); ?></body></html>`,
};

/** Installs WordPress, with the plugin active, and starts it; pages are at \`url\`. */
export const startWordPress = async () => {
  const directory = mkdtempSync(join(tmpdir(), "clickstamp-wp-"));
  const children = [];
  const stop = async () => {
    for (const child of children) {
      const ended = once(child, "exit");
      if (child.exitCode === null && child.kill("SIGKILL")) await ended;
    }
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    const [data, socket, root] = [join(directory, "data"), join(directory, "socket"), join(directory, "www")];
    // The database has no tables of users and rights, which saves the time of its installer; who has the socket may do everything.
    mkdirSync(data);
    const settings = ["--no-defaults", `--datadir=${data}`, `--socket=${socket}`, "--skip-networking", "--skip-grant-tables", "--user=root",
      "--innodb-buffer-pool-size=32M", "--innodb-flush-log-at-trx-commit=0", "--skip-log-bin", `--pid-file=${join(directory, "pid")}`];
    const database = start("mariadbd", settings);
    children.push(database);

    cpSync(SOURCE, root, { recursive: true, dereference: true });
    for (const [name, text] of Object.entries(THEME)) {
      mkdirSync(join(root, "wp-content/themes/shop"), { recursive: true });
      writeFileSync(join(root, "wp-content/themes/shop", name), text);
    }
    cpSync(PLUGIN, join(root, "wp-content/plugins/clickstamp"), { recursive: true });
    const port = await freePort();
    const url = `http://www.shop.localhost:${port}`;
    writeFileSync(join(root, "wp-config.php"), `<?php
      define('DB_NAME', 'wp'); define('DB_USER', 'root'); define('DB_PASSWORD', ''); define('DB_HOST', 'localhost:${socket}');
      define('DB_CHARSET', 'utf8mb4'); define('DB_COLLATE', '');
      foreach (array('AUTH', 'SECURE_AUTH', 'LOGGED_IN', 'NONCE') as $key) { define("{$key}_KEY", 'key'); define("{$key}_SALT", 'salt'); }
      $table_prefix = 'wp_';
      define('WP_HTTP_BLOCK_EXTERNAL', true); define('DISABLE_WP_CRON', true); define('AUTOMATIC_UPDATER_DISABLED', true);
      define('WP_DEBUG', true); define('WP_DEBUG_DISPLAY', true);
      define('WP_HOME', '${url}'); define('WP_SITEURL', '${url}');
      defined('ABSPATH') || define('ABSPATH', __DIR__ . '/');
      require_once ABSPATH . 'wp-settings.php';`);
    writeFileSync(join(root, "router.php"), `<?php
      $path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
      if ($path !== '/' && is_file(__DIR__ . $path)) return false;
      if (is_file(__DIR__ . $path . 'index.php') && $path !== '/') { require __DIR__ . $path . 'index.php'; return; }
      require __DIR__ . '/index.php';`);

    /** Runs PHP code in WordPress; returns what it returns. */
    const php = (code, before = "") =>
      JSON.parse(
        run("php", ["-d", "display_errors=stderr", "-r", `$_SERVER['HTTP_HOST'] = '${new URL(url).host}'; ${before}
          ob_start(); require '${root}/wp-load.php'; $said = (function () { ${code} })(); ob_end_clean(); echo json_encode($said);`]),
      );
    await accepts(database, { path: socket });
    run("php", ["-r", `(new mysqli('localhost', 'root', '', '', 0, '${socket}'))->query('create database wp');`]);
    php(`require ABSPATH . 'wp-admin/includes/upgrade.php'; add_filter('pre_wp_mail', '__return_false');
      wp_install('Shop', 'owner', 'owner@shop.com', true, '', 'secret'); switch_theme('shop'); update_option('permalink_structure', '');
      require_once ABSPATH . 'wp-admin/includes/plugin.php'; return activate_plugin('clickstamp/clickstamp.php');`, "define('WP_INSTALLING', true);");
    const server = start("php", ["-S", `127.0.0.1:${port}`, "-t", root, join(root, "router.php")]);
    children.push(server);
    await accepts(server, { port, host: "127.0.0.1" });
    return { url, port, php, stop };
  } catch (error) {
    await stop();
    throw error;
  }
};
