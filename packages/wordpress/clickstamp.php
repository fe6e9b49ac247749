<?php
/**
 * Plugin Name:       Clickstamp
 * Description:       Puts Clickstamp's tag first into the head of every page, and keeps optimizers from delaying or combining it.
 * Version:           0.1.0
 * Requires at least: 5.7
 * Requires PHP:      7.4
 * License:           MIT
 * License URI:       https://opensource.org/licenses/MIT
 * Text Domain:       clickstamp
 *
 * Takes one setting, the address of the tag. Prints the two lines that Clickstamp's Setup page shows. Guarantees that
 * nothing is printed without a valid address, in the dashboard, in previews, feeds, embeds and on AMP pages.
 */

defined( 'ABSPATH' ) || exit;

const CLICKSTAMP_OPTION = 'clickstamp_tag_url';

/** Makes a click on a payment link wait for the tag, at most 1.5 seconds. A copy of static/tag-stub.min.js. */
const CLICKSTAMP_STUB = <<<'JS'
((e,t)=>{let o=e.clickstamp=e.clickstamp||function(){(o.q=o.q||[]).push(arguments)};e.addEventListener("click",o=>{let a=o.target.closest?.('a[href*="CLICK-ID" i]');if(!a||"id"in e.clickstamp||o.defaultPrevented||o.button||o.metaKey||o.ctrlKey||o.shiftKey||o.altKey||a.target&&"_self"!=a.target)return;let c=()=>{clearTimeout(C),t.removeEventListener("clickstamp:ready",c),location.href=a.href},C=setTimeout(c,1500);o.preventDefault(),t.addEventListener("clickstamp:ready",c)})})(window,document)
JS;

/** Optimizers leave scripts with these attributes alone: LiteSpeed, WP-Optimize and others; Cloudflare's Rocket Loader. */
const CLICKSTAMP_ATTRIBUTES = array(
	'data-no-optimize' => '1',
	'data-no-defer'    => '1',
	'data-cfasync'     => 'false',
);

/**
 * The tag's address in what somebody entered: the address itself, or the line of Setup that contains it.
 *
 * @param mixed $entered Text of the form.
 * @return string|null The address; null if there is none or it is not one of a tag.
 */
function clickstamp_address( $entered ) {
	$entered = is_string( $entered ) ? trim( $entered ) : '';
	if ( preg_match( '/\ssrc\s*=\s*["\']([^"\']+)["\']/i', $entered, $found ) ) {
		$entered = html_entity_decode( $found[1] );
	}
	$pattern = '~^https?://[a-z0-9.-]+(:\d+)?(/[\w.\~-]+)*/t/[\w-]+(\.static)?\.js(\?[\w=&.-]*)?$~iD';
	if ( ! preg_match( $pattern, $entered ) ) {
		return null;
	}
	// On an https page, browsers refuse scripts without https, except from the same machine.
	$host = strtolower( (string) wp_parse_url( $entered, PHP_URL_HOST ) );
	if ( 0 === stripos( $entered, 'http:' ) && ! preg_match( '/(^|\.)localhost$|^127\./', $host ) ) {
		return null;
	}
	return $entered;
}

/** The address in use, or null. */
function clickstamp_tag_url() {
	return clickstamp_address( get_option( CLICKSTAMP_OPTION, '' ) );
}

/** Whether this page gets the tag. */
function clickstamp_is_wanted() {
	$is_amp = ( function_exists( 'amp_is_request' ) && amp_is_request() )
		|| ( function_exists( 'is_amp_endpoint' ) && is_amp_endpoint() );
	$is_wanted = null !== clickstamp_tag_url()
		&& ! ( is_admin() || is_feed() || is_preview() || is_customize_preview() || is_embed() || $is_amp );
	/**
	 * Lets a theme leave out the tag, for example on some pages.
	 *
	 * @param bool $is_wanted Whether the page gets the tag.
	 */
	return (bool) apply_filters( 'clickstamp_is_wanted', $is_wanted );
}

/** Prints the tag. */
function clickstamp_print() {
	if ( ! clickstamp_is_wanted() ) {
		return;
	}
	// These two functions escape the attributes, and let plugins for a Content Security Policy add a nonce.
	wp_print_inline_script_tag( CLICKSTAMP_STUB, CLICKSTAMP_ATTRIBUTES );
	wp_print_script_tag(
		array(
			'async'          => true,
			'fetchpriority'  => 'high',
			'referrerpolicy' => 'no-referrer-when-downgrade',
		) + CLICKSTAMP_ATTRIBUTES + array( 'src' => esc_url_raw( clickstamp_tag_url() ) )
	);
}
add_action( 'wp_head', 'clickstamp_print', PHP_INT_MIN );

/**
 * What the optimizers' filters recognize the two scripts by.
 *
 * @return string[] Host and path of the tag, and a text of the inline script; empty without an address.
 */
function clickstamp_marks() {
	$url = clickstamp_tag_url();
	return null === $url ? array() : array( preg_replace( '~^https?://|\?.*$~i', '', $url ), 'CLICK-ID' );
}

/**
 * Adds the tag to a list of exclusions.
 *
 * @param mixed $excluded The list so far; some optimizers begin with null or a single text.
 * @return array The list with the tag.
 */
function clickstamp_exclude( $excluded ) {
	$excluded = is_array( $excluded ) ? $excluded : array_filter( array( $excluded ) );
	return array_merge( $excluded, clickstamp_marks() );
}

/**
 * The same for a list with commas, as Autoptimize has it.
 *
 * @param mixed $excluded The list so far.
 * @return mixed The list with the tag.
 */
function clickstamp_exclude_in_text( $excluded ) {
	return is_array( $excluded ) ? $excluded : implode( ', ', array_filter( array_merge( array( $excluded ), clickstamp_marks() ) ) );
}

foreach ( array(
	// WP Rocket: minify and combine, defer, delay; scripts with an address, and inline ones.
	'rocket_exclude_js',
	'rocket_minify_excluded_external_js',
	'rocket_excluded_inline_js_content',
	'rocket_exclude_defer_js',
	'rocket_defer_inline_exclusions',
	'rocket_delay_js_exclusions',
	// LiteSpeed Cache: minify and combine, defer and delay, guest mode.
	'litespeed_optimize_js_excludes',
	'litespeed_optm_js_defer_exc',
	'litespeed_optm_gm_js_exc',
	// Perfmatters: minify, defer, delay.
	'perfmatters_minify_js_exclusions',
	'perfmatters_defer_js_exclusions',
	'perfmatters_delay_js_exclusions',
) as $clickstamp_filter ) {
	add_filter( $clickstamp_filter, 'clickstamp_exclude' );
}
unset( $clickstamp_filter );
add_filter( 'autoptimize_filter_js_exclude', 'clickstamp_exclude_in_text' );

/**
 * Checks the setting before it is stored. Keeps the stored one if the new one is wrong.
 *
 * @param mixed $entered Text of the form.
 * @return string The address to store; empty to remove it.
 */
function clickstamp_check( $entered ) {
	if ( is_string( $entered ) && '' === trim( $entered ) ) {
		return '';
	}
	$url = clickstamp_address( $entered );
	if ( null !== $url ) {
		return $url;
	}
	if ( function_exists( 'add_settings_error' ) ) {
		add_settings_error(
			CLICKSTAMP_OPTION,
			'clickstamp_address',
			__( 'This is not the address of a tag. It looks like https://go.example.com/t/main.js; copy it from Setup in Clickstamp.', 'clickstamp' )
		);
	}
	return (string) get_option( CLICKSTAMP_OPTION, '' );
}

/** Declares the setting. */
function clickstamp_register() {
	register_setting(
		'clickstamp',
		CLICKSTAMP_OPTION,
		array(
			'type'              => 'string',
			'default'           => '',
			'sanitize_callback' => 'clickstamp_check',
		)
	);
}
add_action( 'admin_init', 'clickstamp_register' );

/** Adds the page under Settings. */
function clickstamp_menu() {
	add_options_page( 'Clickstamp', 'Clickstamp', 'manage_options', 'clickstamp', 'clickstamp_page' );
}
add_action( 'admin_menu', 'clickstamp_menu' );

/** Shows the page. */
function clickstamp_page() {
	?>
	<div class="wrap">
		<h1>Clickstamp</h1>
		<form method="post" action="options.php">
			<?php settings_fields( 'clickstamp' ); ?>
			<table class="form-table" role="presentation">
				<tr>
					<th scope="row"><label for="clickstamp_tag_url"><?php esc_html_e( 'Address of the tag', 'clickstamp' ); ?></label></th>
					<td>
						<input type="text" class="regular-text code" id="clickstamp_tag_url" name="<?php echo esc_attr( CLICKSTAMP_OPTION ); ?>"
							value="<?php echo esc_attr( get_option( CLICKSTAMP_OPTION, '' ) ); ?>" placeholder="https://go.example.com/t/main.js">
						<p class="description"><?php esc_html_e( 'Copy it, or the whole line, from Setup in Clickstamp. Leave it empty to remove the tag from your pages.', 'clickstamp' ); ?></p>
					</td>
				</tr>
			</table>
			<?php submit_button(); ?>
		</form>
		<p><?php esc_html_e( 'After a change, empty the page cache of your optimizer.', 'clickstamp' ); ?></p>
	</div>
	<?php
}

/**
 * A link to the page in the list of plugins.
 *
 * @param string[] $links The plugin's links.
 * @return string[] The links with the one to the settings first.
 */
function clickstamp_links( $links ) {
	$href = esc_url( admin_url( 'options-general.php?page=clickstamp' ) );
	array_unshift( $links, "<a href=\"$href\">" . esc_html__( 'Settings', 'clickstamp' ) . '</a>' );
	return $links;
}
add_filter( 'plugin_action_links_' . plugin_basename( __FILE__ ), 'clickstamp_links' );

/** Removes what is stored when the plugin is deleted. */
function clickstamp_uninstall() {
	delete_option( CLICKSTAMP_OPTION );
}
register_uninstall_hook( __FILE__, 'clickstamp_uninstall' );
