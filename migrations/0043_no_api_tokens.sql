-- The API's token is a setting of the process. Nothing ever wrote these.
drop table api_tokens;
