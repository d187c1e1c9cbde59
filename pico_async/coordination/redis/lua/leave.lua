-- Remove a member from a rate group.
--
-- KEYS  1 the members by the time of their last request (zset)  2 what they reported about themselves (hash)
-- ARGV  1 the member
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
return 1
