INSERT INTO cdr VALUES ("Ann Lee","101","*672125550142","default","2026-03-02 10:00:00","","2026-03-02 10:00:30","30","0","USER_BUSY","6f2c1a58-0d3e-4b7a-9c41-2f0a8d5e7c10","", "101");
INSERT INTO cdr VALUES ("Ann Lee","101","tel:+12125550145","default","2026-03-02 10:01:00","","2026-03-02 10:01:30","30","0","USER_BUSY","6f2c1a58-0d3e-4b7a-9c41-2f0a8d5e7c11","", "101");
INSERT INTO cdr VALUES ("Ann Lee","101","*98","default","2026-03-02 10:02:00","","2026-03-02 10:02:30","30","0","USER_BUSY","6f2c1a58-0d3e-4b7a-9c41-2f0a8d5e7c12","", "101");
INSERT INTO cdr VALUES ("Ann Lee","101","068e0tg1","default","2026-03-02 10:03:00","","2026-03-02 10:03:30","30","0","USER_BUSY","6f2c1a58-0d3e-4b7a-9c41-2f0a8d5e7c13","", "101");
INSERT INTO cdr VALUES ("Ann Lee","101","4k2v9a0p","default","2026-03-02 10:04:00","","2026-03-02 10:04:30","30","0","USER_BUSY","6f2c1a58-0d3e-4b7a-9c41-2f0a8d5e7c14","", "101");
