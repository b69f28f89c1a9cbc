$action = New-ScheduledTaskAction -Execute "wsl.exe" -Argument "--distribution Debian --user cdr-importer --exec /opt/cdr-importer/.venv/bin/cdr-importer import --config /etc/cdr-importer/cdr-importer.toml /mnt/c/cdr/*.csv"
$trigger = New-ScheduledTaskTrigger -Daily -At 03:30
$settings = New-ScheduledTaskSettingsSet -StartWhenAvailable -MultipleInstances IgnoreNew
Register-ScheduledTask -TaskName "cdr-importer" -Action $action -Trigger $trigger -Settings $settings
