"""Images behind http and https addresses that strangers may have written."""
