//! What Stripe is asked for.
//! Takes the ID of an object; returns the list to request and its filter.
//! Pure.

/// What to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// The checkout that a payment intent paid for.
    CheckoutOfIntent,
    /// The checkout that started a subscription.
    CheckoutOfSubscription,
    /// The checkouts of a customer that may name a visit.
    CheckoutsOfCustomer,
    /// The invoice that a payment intent paid.
    InvoiceOfIntent,
}

impl Subject {
    const ALL: [Self; 4] = [
        Self::CheckoutOfIntent,
        Self::CheckoutOfSubscription,
        Self::CheckoutsOfCustomer,
        Self::InvoiceOfIntent,
    ];

    /// The stored word.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::CheckoutOfIntent => "checkout_of_intent",
            Self::CheckoutOfSubscription => "checkout_of_subscription",
            Self::CheckoutsOfCustomer => "checkouts_of_customer",
            Self::InvoiceOfIntent => "invoice_of_intent",
        }
    }

    pub(super) fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|subject| subject.word() == word)
    }

    /// The text after "Stripe was asked for ".
    pub(super) fn plain(self) -> &'static str {
        match self {
            Self::CheckoutOfIntent => "its checkout",
            Self::CheckoutOfSubscription => "the checkout of its subscription",
            Self::CheckoutsOfCustomer => "an earlier checkout of its customer",
            Self::InvoiceOfIntent => "the invoice of its payment",
        }
    }

    /// The list to request, and its filter.
    pub(super) fn question(self, object_id: &str) -> (&'static str, Vec<(&'static str, String)>) {
        let sessions = "/v1/checkout/sessions";
        let id = object_id.to_owned();
        match self {
            Self::CheckoutOfIntent => (sessions, vec![("payment_intent", id)]),
            Self::CheckoutOfSubscription => (sessions, vec![("subscription", id)]),
            Self::CheckoutsOfCustomer => (sessions, vec![("customer", id)]),
            Self::InvoiceOfIntent => (
                "/v1/invoice_payments",
                vec![
                    ("payment[type]", "payment_intent".to_owned()),
                    ("payment[payment_intent]", id),
                ],
            ),
        }
    }
}

/// A request to Stripe.
pub(super) struct Lookup {
    pub(super) account: String,
    pub(super) subject: Subject,
    /// The payment intent, subscription or customer.
    pub(super) object_id: String,
    pub(super) source_id: String,
    pub(super) tries: i64,
}
