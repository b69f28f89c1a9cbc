"""What is done once, without a call: `sign_in` has the account, `proposal` a site's export, `doctor` all of it."""
